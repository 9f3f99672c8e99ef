"""The worker put together, as `celery -A worker` imports it: in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from queue_run.settings import Settings
from tests.conftest import write_files
from tests.processes import environment
from tests.waiting import DEADLINE
from worker.celery_app import EXIT_USAGE, _require_redis


def python(code: str, app: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environ = environment(
        REDIS_URL="redis://127.0.0.1:1/0",
        QUEUE_RUN_APP_DIR=str(app),
        QUEUE_RUN_NAMESPACE="mine",
        **variables,
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def test_the_applications_queues_and_its_plain_celery_tasks_are_registered(tmp_path: Path) -> None:
    app = write_files(
        tmp_path,
        {
            "sockets/index.py": "def handler(data): return data",
            "queues/mail.py": "def handler(job): pass",
            "queues/tidy.py": (
                "from celery import shared_task\n"
                "@shared_task(name='tidy_up')\n"
                "def tidy_up(): pass\n"
            ),
        },
    )
    code = (
        "import worker\n"
        "from celery import current_app\n"
        "from queue_run import runtime\n"
        "print(sorted(name for name in worker.app.tasks if not name.startswith('celery.')))\n"
        "print(worker.app is worker.app, current_app.main == worker.app.main)\n"
        "print(runtime.current().celery is worker.app, runtime.current().settings.namespace)\n"
    )
    ran = python(code, app)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        "['queue_run.requests', 'queues.mail', 'tidy_up']",
        "True True",
        "True mine",
    ]


def test_an_application_that_cannot_be_loaded_ends_with_exit_code_2_and_all_problems(
    tmp_path: Path,
) -> None:
    app = write_files(
        tmp_path,
        {"sockets/chat.py": "import no_such_module", "queues/mail.py": "def handler(): pass"},
    )
    ran = python("from worker import app", app)
    assert (ran.returncode, ran.stdout) == (EXIT_USAGE, "")
    lines = ran.stderr.splitlines()
    assert lines[0] == "the application cannot be loaded:"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "  - sockets/chat.py",
        "  - queues/mail.py",
    ]


def test_settings_that_cannot_be_used_end_with_exit_code_2(tmp_path: Path) -> None:
    ran = python("from worker import app", tmp_path, PORT="http")
    assert ran.returncode == EXIT_USAGE
    assert ran.stderr.startswith("settings cannot be used:\n  - PORT='http'")


def test_parts_of_the_package_are_imported_without_an_environment(tmp_path: Path) -> None:
    ran = python("import worker, worker.runner\nprint(worker.__all__)", tmp_path, PORT="http")
    assert (ran.returncode, ran.stdout) == (0, "['app']\n")


def test_the_package_has_nothing_else_to_offer() -> None:
    import worker

    with pytest.raises(AttributeError, match="module 'worker' has no attribute 'apps'"):
        getattr(worker, "apps")  # noqa: B009


def test_a_worker_without_its_channel_ends_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        _require_redis(Settings(redis_url="redis://ann:hush@127.0.0.1:1/0"))
    assert caught.value.code == EXIT_USAGE
    told = capsys.readouterr().err
    assert "start it, or set REDIS_URL" in told
    assert "hush" not in told


def test_a_worker_with_its_channel_starts(fake_redis_url: str) -> None:
    _require_redis(Settings(redis_url=fake_redis_url))

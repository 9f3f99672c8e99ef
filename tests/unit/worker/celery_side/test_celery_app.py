"""The worker put together, as `celery -A worker` imports it: in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from queue_run.jobs.stored import StoredJob
from queue_run.process import runtime
from queue_run.settings import Settings
from tests.conftest import NewStack, write_files
from tests.processes import RedisServer, environment
from tests.waiting import DEADLINE
from worker.celery_side.life import EXIT_USAGE


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
        "from queue_run.process import runtime\n"
        "print(sorted(name for name in worker.app.tasks if not name.startswith('celery.')))\n"
        "print(worker.app is worker.app, current_app.main == worker.app.main)\n"
        "print(runtime.current().celery is worker.app, runtime.current().settings.namespace)\n"
    )
    ran = python(code, app)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        "['queue_run.drain', 'queue_run.requests', 'queues.mail', 'tidy_up']",
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


def test_queues_have_their_celery_queues_and_schedules(tmp_path: Path) -> None:
    config = "from queue_run import Config\nconfig = Config({})\ndef handler(job=None): pass\n"
    app = write_files(
        tmp_path,
        {
            "queues/mail.py": config.format(""),
            "queues/slow.py": config.format("celery_queue='slow', fifo=True"),
            "queues/tick.py": config.format("schedule='daily', celery_queue='slow'"),
        },
    )
    code = (
        "import worker\n"
        "from queue_run.process import runtime\n"
        "conf = worker.app.conf\n"
        "print(sorted(each.name for each in conf.task_queues))\n"
        "names = ('mail', 'slow', 'tick')\n"
        "print([conf.task_routes['queues.' + name]['queue'] for name in names])\n"
        "print({name: each['task'] for name, each in conf.beat_schedule.items()})\n"
        "local = runtime.current().local_queues\n"
        "print({name: each.facts.fifo for name, each in local.items()})\n"
    )
    ran = python(code, app)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        "['mine.jobs', 'mine.slow', 'mine.sockets']",
        "['mine.jobs', 'mine.slow', 'mine.slow']",
        "{'tick': 'queues.tick'}",
        "{'mail': False, 'slow': True, 'tick': False}",
    ]


@pytest.mark.parametrize(
    ("broker", "starts"), [("redis://127.0.0.1:1/0", False), ("amqp://127.0.0.1:1", True)]
)
def test_a_job_that_may_outlast_what_redis_waits_for_is_refused(
    tmp_path: Path, broker: str, starts: bool
) -> None:
    text = "from queue_run import Config\nconfig = Config(timeout=60)\ndef handler(job): pass\n"
    app = write_files(tmp_path, {"queues/slow.py": text, "queues/mail.py": "def handler(job): 1"})
    ran = python(
        "from worker import app",
        app,
        BROKER_URL=broker,
        QUEUE_RUN_VISIBILITY_TIMEOUT="60",
    )
    # The other one has the usual timeout, which is longer.
    assert ran.stderr.count("would hand it out a second time while it runs") == (0 if starts else 2)
    assert ("set QUEUE_RUN_VISIBILITY_TIMEOUT above 60" in ran.stderr) == (not starts)
    assert ran.returncode == (0 if starts else EXIT_USAGE)


def test_settings_that_cannot_be_used_end_with_exit_code_2(tmp_path: Path) -> None:
    ran = python("from worker import app", tmp_path, PORT="http")
    assert ran.returncode == EXIT_USAGE
    assert ran.stderr.startswith("settings cannot be used:\n  - PORT='http'")


def test_parts_of_the_package_are_imported_without_an_environment(tmp_path: Path) -> None:
    ran = python(
        "import worker, worker.running.runner\nprint(worker.__all__)", tmp_path, PORT="http"
    )
    assert (ran.returncode, ran.stdout) == (0, "['app']\n")


def test_the_package_has_nothing_else_to_offer() -> None:
    import worker

    with pytest.raises(AttributeError, match="module 'worker' has no attribute 'apps'"):
        getattr(worker, "apps")  # noqa: B009


SECOND_SIGTERM = """
from celery import signals

import worker

worker.app
told = []


class Lock:
    def __init__(self, lock):
        self.lock = lock

    def __enter__(self):
        self.lock.acquire()
        if not told:
            told.append("again")
            tell()

    def __exit__(self, *_):
        self.lock.release()


def tell():
    signals.worker_shutting_down.send(sender="it", sig="SIGTERM", how="Warm", exitcode=0)


signals.worker_shutting_down.lock = Lock(signals.worker_shutting_down.lock)
tell()
print("told", *told)
"""


def test_a_second_sigterm_in_the_midst_of_the_first_does_not_hang_a_worker(tmp_path: Path) -> None:
    """Both are handled in one thread: here the second comes while Celery handles the first."""
    app = write_files(tmp_path, {"sockets/index.py": "def handler(data): return data"})
    assert python(SECOND_SIGTERM, app).stdout == "told again\n"


def test_a_job_of_a_queue_that_only_newer_workers_have_is_run_by_them(
    redis_server: RedisServer,
    namespace: str,
    tmp_path: Path,
    new_stack: NewStack,
    no_runtime: None,
) -> None:
    soon = "import worker.celery_side.tasks\nworker.celery_side.tasks.UNKNOWN_DELAY = 0.1\n"
    old = write_files(tmp_path / "old", {"queues/mail.py": f"{soon}def handler(job): pass"})
    stack = new_stack(redis_server, old, namespace)
    worker = stack.worker("-P", "solo", queues="jobs")
    worker.wait_for_output("ready.")
    here = runtime.configure(Settings(redis_url=redis_server.url, namespace=namespace))
    here.job_pusher.send(StoredJob(id="job-1", queue="new", payload="x"), None)
    worker.wait_for_output("new[job-1] comes again")
    new = write_files(tmp_path / "new", {"queues/new.py": "def handler(job): print('ran', job)"})
    newer = new_stack(redis_server, new, namespace).worker("-P", "solo", queues="jobs")
    newer.wait_for_output("ran x")
    here.close()

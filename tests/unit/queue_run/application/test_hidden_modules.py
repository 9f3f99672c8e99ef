"""Files beside `sockets/` that hide the framework, a library or a module of Python."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from queue_run.application import hidden_modules
from tests.processes import ROOT, environment

OWN = ("worker.py", "worker/__init__.py", "worker/tasks.py", "push_server.py", "queue_run.py")
OTHERS = (
    *("celery.py", "redis.py", "kombu/__init__.py", "tornado.py", "queue.py", "logging.py"),
    *("msgspec.pyc", "socket.py", "json.py", "types.py", "psutil.py"),
)
HARMLESS = ("jobs.py", "turtle.py", "kombu/x.py", "worker/Dockerfile", "models/__init__.py")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "sockets").mkdir()
    (tmp_path / "sockets/index.py").write_text("def handler(data):\n    return data\n")
    return tmp_path


def put(app: Path, name: str) -> None:
    (app / name).parent.mkdir(exist_ok=True)
    (app / name).write_text("print('THEIRS')\n")


@pytest.mark.parametrize("name", [*OWN, *OTHERS])
def test_a_file_that_hides_a_module_is_named(app: Path, name: str) -> None:
    put(app, name)
    [problem] = hidden_modules.problems(app, app)
    assert problem.startswith(str(app / name.partition("/")[0]))
    assert "rename it" in problem


@pytest.mark.parametrize("name", HARMLESS)
def test_other_files_are_not(app: Path, name: str) -> None:
    put(app, name)
    assert hidden_modules.problems(app) == []


def test_the_framework_s_own_folder_hides_nothing() -> None:
    assert hidden_modules.problems(ROOT) == []


COMMANDS = {
    "routes": ("-m", "queue_run", "routes"),
    "worker": ("-m", "queue_run", "worker"),
    "push-server": ("-m", "queue_run", "push-server"),
    "start": ("-m", "queue_run", "start"),
    "push_server": ("-m", "push_server"),
}


def refusal(app: Path, *command: str, **variables: str) -> str:
    """What a process says that ends with exit code 2."""
    result = subprocess.run(
        command,
        env=environment(**{"REDIS_URL": "redis://127.0.0.1:1/0", "PORT": "0"} | variables),
        cwd=app,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2, result
    assert "THEIRS" not in result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("name", ["worker.py", "redis.py", "queue.py", "celery.py"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_it(app: Path, name: str, command: str) -> None:
    put(app, name)
    assert f"{app}/{name} hides" in refusal(app, sys.executable, *COMMANDS[command])


@pytest.mark.parametrize("name", ["worker.py", "worker/__init__.py"])
@pytest.mark.parametrize("command", ["routes", "worker", "push-server", "start"])
def test_every_command_refuses_what_is_found_before_ours_on_the_path(
    app: Path, tmp_path_factory: pytest.TempPathFactory, name: str, command: str
) -> None:
    library = tmp_path_factory.mktemp("library")
    put(library, name)
    said = refusal(app, sys.executable, *COMMANDS[command], PYTHONPATH=f"{library}:{ROOT}")
    assert f"{library}/{name.partition('/')[0]} hides" in said
    assert "PYTHONPATH" in said


def test_a_library_on_the_path_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is meant; and a folder that is no package hides none."""
    put(tmp_path, "redis.py")
    put(tmp_path, "worker/tasks.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert hidden_modules.problems() == []


@pytest.mark.parametrize("name", ["worker.py", "worker/__init__.py", "redis.py", "queue.py"])
@pytest.mark.parametrize("process", ["worker", "beat"])
def test_celery_refuses_it_before_it_is_imported(app: Path, name: str, process: str) -> None:
    put(app, name)
    celery = shutil.which("celery", path=str(Path(sys.executable).parent))
    assert celery is not None
    said = refusal(app, celery, "-A", "worker", process)
    assert f"{app}/{name.partition('/')[0]} hides" in said

"""What an author or a deployment has wrong is one clear message, no traceback, exit code 2; and
the processes run from the Procfile, without the command."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.clients import connected
from tests.conftest import WriteApp, new_namespace
from tests.processes import ROOT, Process, PushServerProcess, RedisServer, environment, free_port
from tests.waiting import eventually_async

PUSH_SERVER = (sys.executable, "-m", "push_server")
WORKER = (sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "solo")
ECHO = {"sockets/index.py": "def handler(data):\n    return data\n"}


def refuse_to_start(
    command: tuple[str, ...], cwd: Path = ROOT, *, code: int = 2, **variables: str
) -> str:
    """What the process says when it ends with this exit code."""
    process = Process(command, environ=environment(**variables), cwd=cwd)
    assert process.wait() == code, process.output
    output = process.output
    assert "Traceback" not in output
    process.end()
    return output.strip()


@pytest.mark.parametrize("command", [PUSH_SERVER, WORKER])
def test_wrong_settings_are_told_all_together(command: tuple[str, ...]) -> None:
    said = refuse_to_start(command, PORT="eighty", QUEUE_RUN_NAMESPCAE="x", REDIS_URL="nonsense")
    assert "PORT='eighty': expected `int`" in said
    assert "QUEUE_RUN_NAMESPCAE: did you mean QUEUE_RUN_NAMESPACE?" in said
    assert "REDIS_URL='nonsense': begin it with redis://" in said


@pytest.mark.parametrize(("command", "code"), [(PUSH_SERVER, 2), (WORKER, 1)])
def test_a_redis_that_is_not_there_is_told(command: tuple[str, ...], code: int) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    app = str(ROOT / "tests/apps/messages")
    said = refuse_to_start(command, code=code, REDIS_URL=url, PORT="0", QUEUE_RUN_APP_DIR=app)
    assert said.splitlines()[-1].startswith(f"Redis at {url} does not answer")
    assert said.endswith("start it, or set REDIS_URL")


def test_a_port_that_is_taken_is_told(redis_server: RedisServer) -> None:
    said = refuse_to_start(PUSH_SERVER, REDIS_URL=redis_server.url, PORT=str(redis_server.port))
    assert f"port {redis_server.port} of 127.0.0.1 cannot be opened" in said
    assert said.endswith("set PORT to another one")


def test_a_missing_application_is_told(redis_server: RedisServer, tmp_path: Path) -> None:
    said = refuse_to_start(WORKER, REDIS_URL=redis_server.url, QUEUE_RUN_APP_DIR=str(tmp_path))
    assert f"{tmp_path} has neither sockets/ nor queues/" in said


def test_all_files_that_cannot_be_used_are_told_together(
    redis_server: RedisServer, write_app: WriteApp
) -> None:
    app = write_app(
        {
            "sockets/index.py": "def handler(dta):\n    return dta\n\ndef other(): pass\n",
            "sockets/bad.py": "async def handler(data, usr):\n    return data\n",
            "sockets/worse.py": "def handler(:\n",
            "queues/mail.py": "import no_such_module\n",
        }
    )
    said = refuse_to_start(WORKER, REDIS_URL=redis_server.url, QUEUE_RUN_APP_DIR=str(app))
    assert "sockets/bad.py: handler has an unknown parameter 'usr': it may take connection," in said
    assert "sockets/worse.py: line 1: invalid syntax" in said
    assert "queues/mail.py: line 1: ModuleNotFoundError: No module named 'no_such_module'" in said
    # A single parameter of any other name gets the whole request.
    assert "sockets/index.py" not in said


async def test_the_procfile_s_processes_run_in_the_application_s_folder(
    redis_server: RedisServer, write_app: WriteApp
) -> None:
    """By the Procfile's own lines, in a shell, for the application in the working directory."""
    job = "from queue_run import socket\n\ndef handler(job):\n    socket.to('ann').send(job)\n"
    push = (
        "from queue_run import queues\n\n"
        "async def handler(data):\n    await queues.get('tell').push(data)\n"
    )
    users = "def on_authenticate(request):\n    return {'id': 'ann'}\n"
    app = write_app(
        {
            "sockets/index.py": push,
            "sockets/_middleware.py": users,
            "queues/tell.py": job,
        }
    )
    processes = []
    environ = environment(
        REDIS_URL=redis_server.url,
        PORT="0",
        QUEUE_RUN_HOST="127.0.0.1",
        QUEUE_RUN_NAMESPACE=new_namespace(),
        # `celery` and `python` of the Procfile are those of this environment.
        PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
    )
    try:
        for name, command in procfile().items():
            if name == "web":
                web = ProcfileWeb(command, environ, app)
                processes.append(web.process)
            else:
                processes.append(Process(["sh", "-c", command], environ=environ, cwd=app))
        await eventually_async(web.is_ready, what="the processes of the Procfile")
        async with connected(web.ws) as client:
            assert await client.ask({"hello": 1}) == {"hello": 1}
    finally:
        for process in processes:
            process.kill()


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))


class ProcfileWeb:
    """The push server as the Procfile starts it."""

    def __init__(self, command: str, environ: dict[str, str], app: Path) -> None:
        self.process = Process(["sh", "-c", command], environ=environ, cwd=app)

    @property
    def ws(self) -> str:
        found = re.search(r"http://([\d.]+:\d+)", self.process.output)
        assert found is not None, self.process.output
        return f"ws://{found[1]}/"

    def is_ready(self) -> bool:
        if "listens on" not in self.process.output:
            return False
        return PushServerProcess.get_from(self.ws.replace("ws", "http", 1), "readyz")[0] == 200


async def test_a_worker_without_a_queue_serves_requests_and_jobs_in_the_default_pool(
    redis_server: RedisServer, write_app: WriteApp
) -> None:
    """`celery -A worker worker`, and nothing more."""
    app = write_app(
        {
            **ECHO,
            "sockets/job.py": "from queue_run import queues, socket\n\n"
            "def handler(data):\n    queues.get('tell').push(data)\n",
            "sockets/_middleware.py": "def on_authenticate(request):\n    return {'id': 7}\n",
            "queues/tell.py": "from queue_run import socket\n\n"
            "async def handler(job, user):\n    await socket.send({'job': job, 'user': user})\n",
        }
    )
    environ = environment(REDIS_URL=redis_server.url, PORT="0", QUEUE_RUN_NAMESPACE=new_namespace())
    server = PushServerProcess(environ)
    celery = shutil.which("celery", path=str(Path(sys.executable).parent))
    assert celery is not None
    worker = Process([celery, "-A", "worker", "worker"], environ=environ, cwd=app)
    try:
        await eventually_async(lambda: server.get("/readyz")[0] == 200, what="readiness")
        async with connected(server.url.replace("http", "ws") + "/") as client:
            assert await client.ask("hello") == "hello"
        async with connected(server.url.replace("http", "ws") + "/job") as client:
            # An int as a user's id is text from there on.
            assert await client.ask(1) == {"job": 1, "user": {"id": "7"}}
    finally:
        server.end()
        worker.end()

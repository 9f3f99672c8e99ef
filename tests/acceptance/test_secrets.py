"""A password that is planted in the settings is in no output of any process, whether the URL works,
is refused, or leads nowhere."""

import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import NewStack, WriteApp, new_namespace
from tests.processes import Process, RedisServer, environment
from tests.waiting import DEADLINE, eventually

SECRET = "hush-hush"
APP = {
    "sockets/index.py": "async def handler(data):\n    return data\n",
    "queues/mail.py": "def handler(job): pass\n",
    "Procfile": f"worker: {sys.executable} -m celery -A worker worker -P solo\n",
}
#: Nothing listens there.
NOWHERE = "127.0.0.1:1"
FORMS = {
    "plain": {"REDIS_URL": f"redis://ann:{SECRET}@{NOWHERE}/0"},
    "with an at sign": {"REDIS_URL": f"redis://:{SECRET}@{SECRET}@{NOWHERE}/0"},
    "percent encoded": {"REDIS_URL": f"redis://:%40{quote(SECRET)}%40@{NOWHERE}/0"},
    "parameter": {"REDIS_URL": f"redis://{NOWHERE}/0?password={SECRET}"},
    "socket": {"REDIS_URL": f"unix://ann:{SECRET}@/no/such/redis.sock"},
    "socket with a parameter": {"REDIS_URL": f"unix:///no/such/redis.sock?password={SECRET}"},
    "TLS": {"REDIS_URL": f"rediss://:x@{NOWHERE}/0?ssl_keyfile_password={SECRET}"},
    "no port": {"REDIS_URL": f"redis://ann:{SECRET}@127.0.0.1:port/0"},
    "slash": {"REDIS_URL": f"redis://ann:{SECRET}/x@{NOWHERE}/0"},
    "question mark": {"REDIS_URL": f"redis://ann:{SECRET}?x@{NOWHERE}/0"},
    "hash": {"REDIS_URL": f"redis://ann:{SECRET}#x@{NOWHERE}/0"},
    "bracket": {"REDIS_URL": f"redis://ann:[{SECRET}@{NOWHERE}/0"},
    "no scheme": {"REDIS_URL": f"ann:{SECRET}@{NOWHERE}"},
    "another scheme": {"REDIS_URL": f"http://ann:{SECRET}@{NOWHERE}"},
    "unknown parameter": {"REDIS_URL": f"redis://:{SECRET}@{NOWHERE}/0?unheard={SECRET}"},
    "bad parameter": {"REDIS_URL": f"redis://{NOWHERE}/0?socket_timeout=x&password={SECRET}"},
    "API keys": {"QUEUE_RUN_API_KEYS": f"{SECRET}, {SECRET}-{SECRET}:"},
    "session": {"QUEUE_RUN_SESSION_SECRET": SECRET},
}
COMMANDS = {
    "push server": ("-m", "push_server"),
    "worker": ("-m", "celery", "-A", "worker", "worker", "-P", "solo"),
    "beat": ("-m", "celery", "-A", "worker", "beat"),
    "report": ("-m", "celery", "-A", "worker", "report"),
    "routes": ("-m", "worker"),
    "dev": ("-m", "queue_run", "dev", "--port", "0"),
    "start": ("-m", "queue_run", "start"),
    "queue": ("-m", "queue_run", "queue", "push", "mail"),
}


def shows_no_secret(name: str, process: Process) -> None:
    output = process.output
    for line in output.splitlines():
        assert SECRET not in line, f"{name}: {line}"
        assert "h-hush" not in line, f"{name}: {line}"
    assert output or name in ("beat", "queue"), f"{name} said nothing"


def has_spoken(process: Process) -> bool:
    return bool(process.output) or not process.running


@pytest.fixture
def started() -> Iterator[dict[str, Process]]:
    processes: dict[str, Process] = {}
    yield processes
    for process in processes.values():
        process.kill()
        process.end()


@pytest.mark.parametrize("form", FORMS)
def test_no_process_tells_a_secret_when_it_cannot_start(
    write_app: WriteApp, form: str, started: dict[str, Process]
) -> None:
    app = write_app(APP)
    environ = environment(
        **{
            "REDIS_URL": f"redis://{NOWHERE}/0",
            "QUEUE_RUN_APP_DIR": str(app),
            "QUEUE_RUN_PUBLISH_TIMEOUT": "0.5",
            "QUEUE_RUN_SHUTDOWN_GRACE": "1",
            "PORT": "0",
            **FORMS[form],
        }
    )
    for name, command in COMMANDS.items():
        started[name] = Process([sys.executable, *command], environ=environ, cwd=app)
    for name, process in started.items():
        if name in ("beat", "start"):
            # They wait for Redis, or start again what does not.
            eventually(partial(has_spoken, process), what=name)
        elif process.running:
            process.wait(DEADLINE)
    for name, process in started.items():
        process.kill()
        shows_no_secret(name, process)


@pytest.mark.parametrize("form", ["redis://:{}@{}/0", "redis://{1}/0?password={0}"])
def test_no_process_tells_the_password_with_which_it_works(
    own_redis: RedisServer, write_app: WriteApp, new_stack: NewStack, form: str
) -> None:
    password = f"{SECRET}@{SECRET}/x"
    with own_redis.client() as client:
        client.config_set("requirepass", password)
    url = form.format(quote(password, safe=""), f"127.0.0.1:{own_redis.port}")
    stack = new_stack(
        own_redis, write_app(APP), new_namespace(), REDIS_URL=url, QUEUE_RUN_LOG_LEVEL="DEBUG"
    )
    stack.push_server()
    stack.worker("-P", "solo", "-l", "DEBUG")
    stack.worker("-c", "1", "-l", "DEBUG", "-B", "-s", str(stack.app / "schedule"))
    stack.wait_until_ready()
    # Whoever may speak to the broker may ask workers for their settings.
    asks = [sys.executable, "-m", "celery", "-A", "worker", "inspect", "conf", "--timeout", "5"]
    answer = Process(asks, environ=stack.environ())
    assert answer.wait() == 0
    assert "redbeat_redis_url" in answer.output
    assert "***" in answer.output
    shows_no_secret("inspect conf", answer)
    assert "%2Fx" not in answer.output
    # Both lose Redis, and tell of it.
    own_redis.kill()
    stack.push_servers[0].wait_for_output("lost the channel")
    for worker in stack.workers:
        worker.wait_for_output("onnection")
    for process in (*stack.push_servers, *stack.workers):
        process.send(signal.SIGTERM)
        process.kill()
        shows_no_secret("process", process)
        assert "%2Fx" not in process.output
    assert Path(stack.app).is_dir()

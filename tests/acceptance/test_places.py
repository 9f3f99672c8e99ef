"""Processes in a container that takes everything away: no user, no home, nothing to write to.

A mount namespace makes the folders read-only, and has the application where everybody may look. The
user may read all, as Python itself may be in a folder of root's.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients import connected
from tests.conftest import WriteApp, new_namespace
from tests.processes import (
    PATIENT,
    ROOT,
    Process,
    PushServerProcess,
    RedisServer,
    environment,
    free_port,
)
from tests.waiting import DEADLINE, eventually_async

USER = "12345"
BARE = f"""
set -e
mount --bind "$PWD" /mnt
cd /mnt
for folder in /tmp /var/tmp $READ_ONLY; do mount --bind "$folder" "$folder"; done
for folder in /mnt /tmp /var/tmp $READ_ONLY; do mount -o remount,bind,ro "$folder"; done
exec setpriv --reuid {USER} --regid {USER} --clear-groups \\
    --inh-caps +dac_read_search --ambient-caps +dac_read_search \\
    env -u HOME -u TMPDIR "$@"
"""
FILES = {
    "Procfile": (ROOT / "Procfile").read_text()
    + "threads: celery -A worker worker -P threads -c 2 -Q ${QUEUE_RUN_NAMESPACE}.threads -l INFO"
    " --without-gossip --without-mingle -n threads@%h\n",
    "sockets/index.py": (
        "from queue_run import queues\n\n"
        "def handler(data):\n"
        "    queues.get('prefork').push(data)\n"
        "    queues.get('threads').push(data)\n"
        "    return data\n"
    ),
    "queues/prefork.py": "def handler(job):\n    print('prefork runs', flush=True)\n",
    "queues/threads.py": (
        "from queue_run import Config\nconfig = Config(celery_queue='threads')\n\n"
        "def handler(job):\n    print('threads runs', flush=True)\n"
    ),
    "queues/tick.py": (
        "from queue_run import Config\nconfig = Config(schedule='every second')\n\n"
        "def handler(job):\n    print('tick runs', flush=True)\n"
    ),
}

Bare = Callable[..., Process]


@pytest.fixture
def app(write_app: WriteApp) -> Path:
    return write_app(FILES)


@pytest.fixture
def bare(redis_server: RedisServer, app: Path) -> Iterator[Bare]:
    """Starts `queue-run` in a bare place, if this machine can make one."""
    place = ["unshare", "-m", "sh", "-c", BARE, "sh"]
    started: list[Process] = []
    try:
        probe = subprocess.run(
            [*place, "sh", "-c", f'test "$(id -u)" = {USER} && ! touch here'],
            cwd=app,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    except FileNotFoundError as error:
        pytest.skip(f"{error}")
    if probe.returncode != 0:
        pytest.skip(f"this user cannot make a mount namespace: {probe.stderr}")

    def start(*arguments: str, **variables: str) -> Process:
        variables = {
            "REDIS_URL": redis_server.url,
            "QUEUE_RUN_HOST": "127.0.0.1",
            "QUEUE_RUN_NAMESPACE": new_namespace(),
            **PATIENT,
            **variables,
        }
        command = [*place, sys.executable, "-m", "queue_run", *arguments]
        started.append(Process(command, environ=environment(**variables), cwd=app))
        return started[-1]

    yield start
    for each in started:
        print(each.output)  # noqa: T201
        each.end()


async def test_everything_runs_where_nothing_can_be_written(bare: Bare) -> None:
    port = free_port()
    session = bare("start", PORT=str(port))
    await eventually_async(lambda: is_ready(port), what="the first answer")
    async with connected(f"ws://127.0.0.1:{port}") as client:
        assert await client.ask({"n": 1}) == {"n": 1}
    expected = {"prefork runs", "threads runs", "tick runs", "goes on without it"}
    await eventually_async(
        lambda: all(text in session.output for text in expected), what="a job of each kind"
    )
    assert session.output.count("goes on without it") == 1
    assert "Traceback" not in session.output


def is_ready(port: int) -> bool:
    try:
        return PushServerProcess.get_from(f"http://127.0.0.1:{port}", "/readyz")[0] == 200
    except OSError:
        return False  # It does not listen yet.


def test_commands_answer_where_nothing_can_be_written(bare: Bare) -> None:
    routes = bare("routes")
    assert routes.wait() == 0
    assert "queues/tick.py" in routes.output
    own = {"QUEUE_RUN_NAMESPACE": new_namespace()}
    for arguments, said in (
        (("push", "prefork", "1"), "the job waits for one"),
        (("cancel", "some-id"), "cancelled some-id"),
        (("dead", "list"), "no dead letters"),
        (("unreadable", "list"), "nothing was set aside"),
    ):
        command = bare("queue", *arguments, **own)
        assert command.wait() == 0, command.output
        assert said in command.output
    dev = bare("dev")
    assert dev.wait() == 2
    assert "TMPDIR" in dev.output
    assert "Traceback" not in dev.output


@pytest.mark.parametrize("command", ["routes", "push-server", "start"])
def test_a_home_that_nobody_knows_is_named(bare: Bare, command: str) -> None:
    process = bare(command, QUEUE_RUN_APP_DIR="~/shop")
    assert process.wait() == 2
    assert "QUEUE_RUN_APP_DIR='~/shop'" in process.output
    assert "Traceback" not in process.output


@pytest.mark.parametrize(("pool", "runs"), [("prefork", False), ("threads", True), ("solo", True)])
def test_a_pool_that_needs_semaphores_says_where_they_are(
    bare: Bare, pool: str, runs: bool
) -> None:
    process = bare("worker", "--serve", "jobs", "--", "-P", pool, READ_ONLY="/dev/shm")
    if runs:
        process.wait_for_output("ready.")
    else:
        assert process.wait() == 2
        assert "/dev/shm" in process.output
    assert "Traceback" not in process.output

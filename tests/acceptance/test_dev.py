"""`queue-run dev` as a whole: a real application, a real WebSocket, and nothing left behind."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from queue_run.cli.development.embedded_redis import choose_source
from tests.conftest import WriteApp, write_files
from tests.parts import require
from tests.processes import Process, environment
from tests.unit.cli.running import descendants, processes
from tests.waiting import DEADLINE, POLL, eventually, eventually_async

ECHO = "async def handler(data):\n    return {'echo': data}\n"
SHOUT = "async def handler(data):\n    return {'shout': data.upper()}\n"
#: Neither ends by itself nor when asked to.
BLOCK = (
    "import time\n\n"
    "def handler(data):\n    print('handler runs', flush=True)\n    time.sleep(600)\n"
)


class Dev(Process):
    """A development session for one application."""

    def __init__(self, app: Path, **variables: str) -> None:
        self.app = app
        super().__init__(
            [sys.executable, "-m", "queue_run", "dev", "--port", "0", "--app", str(app)],
            environ=environment(**variables),
        )

    def wait_until_ready(self) -> "Dev":
        self.wait_for_output("Ctrl+C stops everything")
        return self

    @property
    def ws(self) -> str:
        return self.output.partition("WebSocket ")[2].split()[0]

    @property
    def redis_url(self) -> str:
        return self.output.partition("\n  REDIS_URL=")[2].split()[0]

    def find(self, text: str) -> list[int]:
        """The processes that have this in their command."""
        return [each.pid for each in descendants(self.pid) if text in each.command]

    def pids(self) -> set[int]:
        """All processes of the session but the first."""
        return {each.pid for each in descendants(self.pid)}


def assert_gone(pids: set[int]) -> None:
    assert len(pids) >= 5, "Redis, the push server, two workers and the reaper"
    eventually(lambda: not pids & {each.pid for each in processes()}, what=f"the end of {pids}")


async def ask(client: ClientConnection, data: object) -> object:
    await client.send(json.dumps(data))
    return json.loads(await client.recv())


async def eventually_answers(client: ClientConnection, data: object, answer: object) -> None:
    """Until a worker with the newest files answers, the one before it may."""
    answers = [await ask(client, data)]
    while answers[-1] != answer:
        assert len(answers) < 500, f"still {answers[-1]}"
        answers.append(await ask(client, data))


@pytest.fixture
def dev(write_app: WriteApp) -> Iterator[Callable[..., Dev]]:
    require(choose_source(), "a Redis server")
    sessions: list[Dev] = []

    def start(files: dict[str, str], **variables: str) -> Dev:
        sessions.append(Dev(write_app(files), **variables))
        return sessions[-1]

    yield start
    for session in sessions:
        print(session.output)  # noqa: T201
        session.end()


async def test_it_comes_up_and_answers(dev: Callable[..., Dev]) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    async with connect(session.ws) as client:
        assert await ask(client, "hi") == {"echo": "hi"}


async def test_a_changed_handler_answers_on_a_connection_that_stayed_open(
    dev: Callable[..., Dev],
) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    async with connect(session.ws) as client:
        assert await ask(client, "hi") == {"echo": "hi"}
        write_files(session.app, {"sockets/index.py": SHOUT})
        await eventually_async(
            lambda: "sockets/index.py changed" in session.output, what="the line about the change"
        )
        await eventually_answers(client, "hi", {"shout": "HI"})
    assert session.output.count("listens on") == 1


async def test_a_broken_file_is_reported_and_its_repair_is_enough(
    dev: Callable[..., Dev],
) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    async with connect(session.ws) as client:
        assert await ask(client, "hi") == {"echo": "hi"}
        write_files(session.app, {"sockets/index.py": "def handler(:\n"})
        await eventually_async(
            lambda: session.output.count("it starts again when a file changes") == 2,
            what="both workers to give up",
        )
        assert "sockets/index.py: line 1: invalid syntax" in session.output
        write_files(session.app, {"sockets/index.py": SHOUT})
        await eventually_answers(client, "hi", {"shout": "HI"})


async def test_an_application_that_is_broken_from_the_start_can_be_mended(
    dev: Callable[..., Dev],
) -> None:
    session = dev({"sockets/index.py": "import no_such_module\n"})
    session.wait_for_output("no_such_module")
    session.wait_for_output("sockets ended (exit code 2, see above)")
    write_files(session.app, {"sockets/index.py": ECHO})
    session.wait_until_ready()
    async with connect(session.ws) as client:
        assert await ask(client, "hi") == {"echo": "hi"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(dev: Callable[..., Dev], number: signal.Signals) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    pids = session.pids()
    session.send(number)
    assert session.wait() == 0
    assert "killed" not in session.output.partition("stopping (Ctrl+C again kills at once)")[2]
    assert_gone(pids)


async def test_a_second_interrupt_does_not_wait_for_a_handler(dev: Callable[..., Dev]) -> None:
    session = dev({"sockets/index.py": BLOCK}, QUEUE_RUN_SHUTDOWN_GRACE="600").wait_until_ready()
    pids = session.pids()
    async with connect(session.ws) as client:
        await client.send("hi")
        await eventually_async(lambda: "handler runs" in session.output, what="the handler")
        session.send(signal.SIGINT)
        await eventually_async(lambda: "stopping" in session.output, what="the answer to Ctrl+C")
        session.send(signal.SIGINT)
        assert session.wait() == 0
    assert_gone(pids)


def test_killing_the_supervisor_leaves_no_process(dev: Callable[..., Dev]) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    pids = session.pids()
    session.send(signal.SIGKILL)
    assert session.wait() == -signal.SIGKILL
    assert_gone(pids)


@pytest.mark.parametrize("name", ["queue-run.sockets", "push_server", "redis"])
async def test_a_process_that_is_killed_is_replaced(dev: Callable[..., Dev], name: str) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    # What the servers that can be the Redis here have in common is their port.
    text = session.redis_url.rpartition(":")[2].removesuffix("/0") if name == "redis" else name
    [killed] = session.find(text)
    os.kill(killed, signal.SIGKILL)
    await eventually_async(lambda: "(killed by SIGKILL)" in session.output, what="the report")
    await eventually_echoes(session)
    assert session.find(text) not in ([], [killed])


async def eventually_echoes(session: Dev) -> None:
    """While processes start again, connecting may fail and a message may end in an error."""
    until = time.monotonic() + DEADLINE
    answer: object = None
    while answer != {"echo": "hi"}:
        assert time.monotonic() < until, answer
        await asyncio.sleep(POLL)
        try:
            async with connect(session.ws) as client:
                answer = await ask(client, "hi")
        except (OSError, WebSocketException) as error:
            answer = error

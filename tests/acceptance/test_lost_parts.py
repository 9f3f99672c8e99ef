"""A part of a process ends of a defect: the process ends too, and says so.

The defects are planted: each program here replaces a part's work before it starts.
"""

import asyncio
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.acceptance.conftest import MESSAGES_APP
from tests.clients import connected
from tests.conftest import NewStack
from tests.processes import Process, PushServerProcess, RedisServer, Stack
from tests.waiting import DEADLINE, eventually_async

#: Lets a task of a push server do its work until a file appears, and then end in some way.
TASK = """
import asyncio, os, pathlib, sys
from {module} import {owner}

signal = pathlib.Path(os.environ["SIGNAL"])
whole = {owner}.run

async def ending(self, *arguments):
    work = asyncio.ensure_future(whole(self, *arguments))
    while not signal.exists():
        await asyncio.sleep(0.02)
    {end}

{owner}.run = ending
from push_server.__main__ import main
sys.exit(main())
"""

#: The same for the thread that sends requests to workers.
DISPATCHER = """
import os, pathlib, sys
from queue_run.broker.dispatch import Dispatcher

signal = pathlib.Path(os.environ["SIGNAL"])
whole = Dispatcher._next_batch

def ending(self):
    if signal.exists():
        raise SystemExit(0)
    return whole(self)

Dispatcher._next_batch = ending
from push_server.__main__ import main
sys.exit(main())
"""

#: The same for the one that pushes the jobs of HTTP requests.
PUSHING = """
import os, pathlib, sys
from queue_run.threads.detached import DetachedThreads

signal = pathlib.Path(os.environ["SIGNAL"])
whole = DetachedThreads.submit

def ending(self, *work):
    if signal.exists():
        # No call, and no end.
        self._calls.put(())
    return whole(self, *work)

DetachedThreads.submit = ending
from push_server.__main__ import main
sys.exit(main())
"""

#: The same for beat's clock.
BEAT = """
import os, pathlib, sys, time
from queue_run.threads.caretaker import Caretaker

signal = pathlib.Path(os.environ["SIGNAL"])

def ending(self):
    while not signal.exists():
        time.sleep(0.02)
    raise LookupError("a defect")

Caretaker._go_round = ending
sys.argv = ["celery", "-A", "worker", "beat", "-l", "INFO", *sys.argv[1:]]
from celery.__main__ import main
sys.exit(main())
"""

WORKER = """
import os, pathlib, sys, time
from {module} import {owner}

signal = pathlib.Path(os.environ["SIGNAL"])

def ending(self):
    if signal.exists():
        raise SystemExit(0)

{owner}.{work} = ending
sys.argv = ["celery", "-A", "worker", "worker", "-l", "INFO", *sys.argv[1:]]
from celery.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def stack(redis_server: RedisServer, new_stack: NewStack) -> Stack:
    stack = new_stack(redis_server, MESSAGES_APP)
    stack.worker("-P", "solo", queues="sockets")
    return stack


class SpoiltPushServer(PushServerProcess):
    """A push server with a planted defect."""

    def __init__(self, code: str, environ: dict[str, str]) -> None:
        Process.__init__(self, [sys.executable, "-c", code], environ=environ)
        self.wait_for_output("listens on ")
        self.url = self.output.partition("listens on ")[2].split()[0]

    def push(self, queue: str) -> int | None:
        """The status of a push by HTTP; None when there was no answer."""
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/_/queues/{queue}", b"{}", headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None


#: Of an API, which may push to every queue.
KEY = "a-key-of-an-api-0123456789"

ENDS = {"returns": "return", "raises": "raise LookupError('a defect')"}
TASKS = [("queue_run.channel.listener", "Listener"), ("push_server.upkeep.presence", "Presence")]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("module", "owner"), TASKS, ids=["hub", "presence"])
async def test_a_push_server_that_loses_a_task_closes_its_connections_and_ends_with_1(
    stack: Stack, tmp_path: Path, module: str, owner: str, end: str
) -> None:
    signal = tmp_path / "signal"
    code = TASK.format(module=module, owner=owner, end=ENDS[end])
    server = await spoilt(stack, code, signal)
    async with connected(server.url.replace("http", "ws") + "/") as client:
        signal.touch()
        assert await client.closed() == (1001, "the server is shutting down")
    assert await asyncio.to_thread(server.wait) == 1
    assert "CRITICAL" in server.output
    assert "ended unexpectedly" in server.output
    assert ("LookupError: a defect" in server.output) == (end == "raises")


async def test_a_push_server_that_loses_its_dispatcher_ends_with_1(
    stack: Stack, tmp_path: Path
) -> None:
    signal = tmp_path / "signal"
    server = await spoilt(stack, DISPATCHER, signal)
    async with connected(server.url.replace("http", "ws") + "/") as client:
        assert await client.ask("fine?") == {"echo": "fine?"}
        signal.touch()
        await client.send("and now?")
        assert (await client.closed())[0] == 1001
    assert await asyncio.to_thread(server.wait) == 1
    assert "the thread queue-run-dispatch ended unexpectedly" in server.output


async def test_a_push_server_that_loses_the_thread_of_its_pushes_ends_with_1(
    stack: Stack, tmp_path: Path
) -> None:
    signal = tmp_path / "signal"
    server = await spoilt(stack, PUSHING, signal)
    async with connected(server.url.replace("http", "ws") + "/") as client:
        signal.touch()
        push = asyncio.create_task(asyncio.to_thread(server.push, "plain_job"))
        assert (await client.closed())[0] == 1001
        # Its client hears that it has failed, or nothing more.
        assert await push in (500, 503, None)
    assert await asyncio.to_thread(server.wait) == 1
    assert "the thread queue-run-push ended unexpectedly" in server.output


def test_a_beat_that_loses_its_clock_ends_with_1(stack: Stack, tmp_path: Path) -> None:
    signal = tmp_path / "signal"
    command = [sys.executable, "-c", BEAT, "-s", str(tmp_path / "schedule")]
    beat = Process(command, environ=stack.environ(SIGNAL=str(signal)))
    stack.workers.append(beat)
    beat.wait_for_output("beat: Starting")
    signal.touch()
    assert beat.wait() == 1
    assert "the thread queue-run-clock ended unexpectedly" in beat.output
    assert "LookupError: a defect" in beat.output


async def spoilt(stack: Stack, code: str, signal: Path) -> SpoiltPushServer:
    server = SpoiltPushServer(
        code, stack.environ(PORT="0", SIGNAL=str(signal), QUEUE_RUN_API_KEYS=KEY)
    )
    stack.push_servers.append(server)
    await eventually_async(lambda: server.get("/readyz")[0] == 200, what="a ready server")
    return server


@pytest.mark.parametrize("pool", [("solo",), ("threads", "-c", "2"), ("prefork", "-c", "1")])
@pytest.mark.parametrize(
    ("module", "owner", "work"),
    [
        ("worker.announcer", "Announcer", "_tell"),
        ("worker.jobs.sweeper", "Sweeper", "_sweep_all"),
    ],
    ids=["announcer", "sweeper"],
)
def test_a_worker_that_loses_a_thread_ends_with_1(
    redis_server: RedisServer,
    new_stack: NewStack,
    tmp_path: Path,
    module: str,
    owner: str,
    work: str,
    pool: tuple[str, ...],
) -> None:
    stack = new_stack(redis_server, MESSAGES_APP)
    signal = tmp_path / "signal"
    code = WORKER.format(module=module, owner=owner, work=work)
    command = [sys.executable, "-c", code, "-n", f"spoilt@{stack.namespace}", "-P", *pool]
    worker = Process(command, environ=stack.environ(SIGNAL=str(signal)))
    stack.workers.append(worker)
    worker.wait_for_output("ready.")
    signal.touch()
    assert worker.wait() == 1
    assert "CRITICAL" in worker.output
    assert "ended unexpectedly" in worker.output

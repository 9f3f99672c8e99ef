"""Clocks that are wrong: nothing that travels goes by them, and everybody is told of them."""

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from queue_run import queues
from tests.acceptance.job_record import pushing_to
from tests.clients import connected
from tests.conftest import NewStack, WriteApp
from tests.processes import Process, RedisServer, Stack
from tests.waiting import DEADLINE, eventually, eventually_async
from tests.wrong_clock import clock_as_in, clock_off_by

RECORD = """
import json
import os
import time

import redis

client = redis.Redis.from_url(os.environ["REDIS_URL"])
NOTES = os.environ["QUEUE_RUN_NAMESPACE"] + ":notes"


def note(**facts):
    client.rpush(NOTES, json.dumps({"pid": os.getpid(), **facts}))
"""

MIDDLEWARE = """
import time

from queue_run.process import context
from record import note


def on_authenticate(request):
    lasts = request.query.get("lasts")
    if lasts:
        context.expire_connection(time.time() + float(lasts))
    return {"id": request.query["user"]}


def on_online(user_id):
    note(online=user_id)


def on_offline(user_id):
    note(offline=user_id)
"""

INDEX = """
from queue_run import queues


async def handler(data):
    await queues.get("again").push(data)
    for number in range(3):
        await queues.get("ordered").group(data).push(number)
    return {"echo": data}
"""

AGAIN = """
from queue_run import Config, socket
from record import note

config = Config(retries=2, backoff=0.2, timeout=4)


def handler(job, attempt, queued_at):
    if attempt == 1:
        raise ValueError("not yet")
    note(again=job, attempt=attempt, queued_at=queued_at)
    socket.send({"done": job})
"""

ORDERED = """
from queue_run import Config
from record import note

config = Config(fifo=True, timeout=4)


def handler(job, group_id):
    note(ordered=job, group=group_id)
"""

#: Its first attempt ends when the test lets it.
LONG = """
import os
import time

from queue_run import Config
from record import NOTES, client, note

config = Config(timeout=float(os.environ["TEST_LONG"]))


def handler(job, attempt):
    note(begun=job, attempt=attempt)
    while attempt == 1 and not client.exists(NOTES + ":may-end"):
        time.sleep(0.02)
    note(ended=job, attempt=attempt)
"""

TICK = """
from datetime import timedelta

from queue_run import Config
from record import note

config = Config(schedule=timedelta(seconds=1), timeout=2)


def handler(job):
    note(tick=True)
"""

APP = {
    "record.py": RECORD,
    "sockets/_middleware.py": MIDDLEWARE,
    "sockets/index.py": INDEX,
    "queues/again.py": AGAIN,
    "queues/ordered.py": ORDERED,
    "queues/long.py": LONG,
    "queues/tick.py": TICK,
}


class World:
    """A stack of the application above, and what it has noted."""

    def __init__(
        self, redis: RedisServer, new_stack: NewStack, app: Path, visibility: float
    ) -> None:
        self.client: Any = redis.client()
        self.stack: Stack = new_stack(
            redis,
            app,
            QUEUE_RUN_OFFLINE_DELAY="0.5",
            QUEUE_RUN_VISIBILITY_TIMEOUT=str(visibility),
            TEST_LONG=str(visibility - 1),
        )
        self._path = f"{app}"

    def worker(self, *pool: str, clock: dict[str, str] | None = None) -> None:
        environ = self._with_app(clock)
        self.stack.worker(*pool, **environ)

    def beat(self, clock: dict[str, str], file: Path) -> Process:
        """Celery beat; whoever starts it ends it."""
        command = (sys.executable, "-m", "celery", "-A", "worker", "beat", "-s", str(file))
        return Process(command, environ=self.stack.environ(**self._with_app(clock)))

    def _with_app(self, clock: dict[str, str] | None) -> dict[str, str]:
        """The application's folder holds a module that its files import."""
        before = (clock or self.stack.environ())["PYTHONPATH"]
        return {**(clock or {}), "PYTHONPATH": f"{before}:{self._path}"}

    def noted(self, **facts: object) -> list[dict[str, Any]]:
        """What was noted with these facts; None for any value."""
        entries = [
            json.loads(each) for each in self.client.lrange(f"{self.stack.namespace}:notes", 0, -1)
        ]
        return [
            entry
            for entry in entries
            if all(name in entry and value in (None, entry[name]) for name, value in facts.items())
        ]

    def let_end(self) -> None:
        """Let the first attempt of a long job end."""
        self.client.set(f"{self.stack.namespace}:notes:may-end", 1)

    @property
    def notes(self) -> list[str]:
        """Of `/readyz`."""
        status, body = self.stack.push_servers[0].get("/readyz")
        assert status == 200
        found: list[str] = json.loads(body).get("notes", [])
        return found

    def redis_time(self) -> float:
        seconds, microseconds = self.client.time()
        return float(seconds + microseconds / 1e6)


@pytest.fixture
def world(redis_server: RedisServer, new_stack: NewStack, write_app: WriteApp) -> World:
    return World(redis_server, new_stack, write_app(APP), visibility=2 * DEADLINE)


@pytest.fixture
def forgetful(redis_server: RedisServer, new_stack: NewStack, write_app: WriteApp) -> World:
    """One in which jobs of killed workers come back soon."""
    return World(redis_server, new_stack, write_app(APP), visibility=5.0)


SOLO, THREADS, PREFORK = ("-P", "solo"), ("-P", "threads", "-c", "4"), ("-P", "prefork", "-c", "2")


@pytest.mark.parametrize(
    ("worker_off", "server_off", "pool"),
    [
        (20.0, 0.0, PREFORK),
        (-3600.0, 0.0, SOLO),
        (3600.0, 0.0, THREADS),
        (0.0, 20.0, SOLO),
        (0.0, -3600.0, SOLO),
        (0.0, 3600.0, SOLO),
    ],
)
async def test_everything_works_with_a_clock_that_is_wrong(
    world: World, worker_off: float, server_off: float, pool: tuple[str, ...]
) -> None:
    stack = world.stack
    await asyncio.to_thread(stack.push_server, **(clock_off_by(server_off) if server_off else {}))
    world.worker(*pool, clock=clock_off_by(worker_off) if worker_off else None)
    await asyncio.to_thread(stack.wait_until_ready)

    # Handshake, request, a job that is tried again, and what it sends.
    async with connected(stack.ws("/?user=ann")) as client:
        # A job and the reply of the handler that pushed it have no order.
        both = [await client.ask("tea"), await client.receive()]
        assert sorted(both, key=str) == [{"done": "tea"}, {"echo": "tea"}]
        # FIFO.
        await eventually_async(lambda: len(world.noted(ordered=None)) == 3, what="the group")
    assert [entry["ordered"] for entry in world.noted(group="tea")] == [0, 1, 2]
    # Presence.
    await eventually_async(lambda: world.noted(offline="ann"), what="ann's departure")
    assert len(world.noted(online="ann")) == 1
    # The job knows when it was pushed, by a clock that is right.
    [entry] = world.noted(again="tea")
    assert entry["queued_at"] == pytest.approx(world.redis_time(), abs=60)

    await eventually_async(lambda: world.notes, what="a note about the clock")
    [note] = world.notes
    off, process = (worker_off, "worker worker0@") if worker_off else (server_off, "push server ")
    assert note.startswith(f"the clock of {process}")
    assert ("ahead of" if off > 0 else "behind") in note
    wrong = stack.workers[0] if worker_off else stack.push_servers[0]
    assert wrong.output.count("the clock of this machine is ") == 1
    right = stack.push_servers[0] if worker_off else stack.workers[0]
    assert "the clock of this machine is " not in right.output


async def test_clocks_that_are_right_are_not_spoken_of(world: World) -> None:
    await asyncio.to_thread(world.stack.push_server)
    world.worker(*SOLO)
    await asyncio.to_thread(world.stack.wait_until_ready)
    assert world.notes == []
    assert "the clock of" not in world.stack.logs()


async def test_a_token_ends_its_connection_when_its_time_is_over(world: World) -> None:
    await asyncio.to_thread(world.stack.push_server, **clock_off_by(3600))
    world.worker(*SOLO, clock=clock_off_by(-3600))
    await asyncio.to_thread(world.stack.wait_until_ready)
    async with connected(world.stack.ws("/?user=ann&lasts=600")) as client:
        assert {"echo": "tea"} in [await client.ask("tea"), await client.receive()]
    assert await closed_with_its_token(world.stack) == (4401, "the token has expired")


async def closed_with_its_token(stack: Stack) -> tuple[int, str]:
    for seconds in (2, 8, 32):
        # On a busy machine its time may be over before anybody is let in: then another has more.
        with contextlib.suppress(InvalidStatus):
            async with connected(stack.ws(f"/?user=bob&lasts={seconds}")) as client:
                return await client.closed()
    raise AssertionError("nobody was let in")


@pytest.mark.parametrize("off", [3600.0, -3600.0])
def test_the_job_of_a_killed_worker_comes_back_in_time(forgetful: World, off: float) -> None:
    world = forgetful
    world.worker(*SOLO, clock=clock_off_by(off))
    world.stack.wait_until_ready()
    with pushing_to(world.stack):
        queues.get("long").push("report")
    eventually(lambda: world.noted(begun="report"), what="the job to begin")
    world.stack.workers[0].kill()
    world.worker(*SOLO)
    # After the visibility timeout of five seconds, and not after an hour.
    eventually(lambda: world.noted(ended="report", attempt=2), what="the job again")


def test_a_worker_whose_clock_is_ahead_takes_no_job_from_another(world: World) -> None:
    world.worker(*SOLO)
    world.stack.wait_until_ready()
    with pushing_to(world.stack):
        queues.get("long").push("report")
    eventually(lambda: world.noted(begun="report"), what="the job to begin")
    index = f"{world.stack.namespace}.unacked_index"
    [(tag, taken_at)] = world.client.zrange(index, 0, -1, withscores=True)
    assert taken_at == pytest.approx(world.redis_time(), abs=30)
    world.worker(*SOLO, clock=clock_off_by(3600))
    # It has looked by then for what others have held for too long.
    world.stack.workers[1].wait_for_output("ready.")
    world.let_end()
    eventually(lambda: world.noted(ended="report"), what="the job's end")
    assert [entry["attempt"] for entry in world.noted(ended="report")] == [1]
    eventually(lambda: not world.client.zcard(index), what="the acknowledgement")
    assert tag
    assert len(world.noted(begun="report")) == 1


def test_beat_goes_on_when_its_clock_is_set_right(world: World, tmp_path: Path) -> None:
    off = tmp_path / "off"
    off.write_text("+3600\n")
    world.worker(*SOLO)
    world.stack.wait_until_ready()
    beat = world.beat(clock_as_in(off), tmp_path / "schedule")
    try:
        eventually(lambda: world.noted(tick=True), what="a job of beat's")
        off.write_text("+0\n")
        # Else nothing would come for an hour.
        beat.wait_for_output("The clock of this machine was set back: the last jobs of tick")
        world.client.delete(f"{world.stack.namespace}:notes")
        eventually(lambda: len(world.noted(tick=True)) > 1, what="more of them")
    finally:
        beat.end()


async def test_a_clock_that_is_set_while_its_process_runs_costs_nothing(
    world: World, tmp_path: Path
) -> None:
    off = tmp_path / "off"
    off.write_text("+0\n")
    await asyncio.to_thread(world.stack.push_server)
    world.worker(*SOLO, clock=clock_as_in(off))
    await asyncio.to_thread(world.stack.wait_until_ready)
    worker = world.stack.workers[0]
    async with connected(world.stack.ws("/?user=ann")) as client:
        # A job and the reply of the handler that pushed it have no order.
        both = [await client.ask("tea"), await client.receive()]
        assert sorted(both, key=str) == [{"done": "tea"}, {"echo": "tea"}]
        off.write_text("+3600\n")
        # Before any heartbeat has noticed it.
        # A job and the reply of the handler that pushed it have no order.
        both = [await client.ask("milk"), await client.receive()]
        assert sorted(both, key=str) == [{"done": "milk"}, {"echo": "milk"}]
        await asyncio.to_thread(worker.wait_for_output, "s ahead of that of Redis")
        await eventually_async(lambda: world.notes, what="a note about the clock")
        off.write_text("+0\n")
        await eventually_async(lambda: not world.notes, what="its end")
    worker.send(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait) == 0

"""Links that die without an end: packets of those that exist are swallowed, new ones work.

A vanished host or a forgotten NAT entry looks like that. A proxy stands between every process and
its Redis, or RabbitMQ, and lets all links through it fall silent at once.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidHandshake

from tests.clients import Client, connected
from tests.conftest import new_namespace, write_files
from tests.faults.proxy import Proxy
from tests.processes import RedisServer, Stack
from tests.rabbitmq import RabbitMQ
from tests.waiting import eventually

APP = {
    "sockets/index.py": """
from queue_run import queues

async def handler(data):
    if "job" in data:
        await queues.get("plain").push(data["job"])
        return {"pushed": data["job"]}
    return data
""",
    "sockets/_middleware.py": """
async def on_authenticate(request):
    return {"id": request.query["user"]}
""",
    "queues/plain.py": """
from queue_run import socket

def handler(job):
    socket.send({"ran": job})
""",
}

#: Seconds within which requests and jobs are back after the fault has begun. The promise is 15, at
#: which the laboratory looks; a machine that runs tests side by side takes longer for everything.
BACK_WITHIN = 40.0
#: Seconds between two requests of one client.
PAUSE = 0.2
#: Seconds after which a client that has just come tries again: for the first time, and at most.
TRY, LONGEST_TRY = 1.5, 12.0
#: Beyond a handler's own timeout, how long push servers wait for an outcome that is lost.
SETTINGS = {"QUEUE_RUN_DEADLINE_GRACE": "5"}

POOLS = [
    pytest.param(("-P", "solo"), id="solo"),
    pytest.param(("-P", "prefork", "-c", "2"), id="prefork"),
    pytest.param(("-P", "threads", "-c", "2"), id="threads"),
]


class Asker:
    """A client that asks all the time, and notes what it is answered."""

    def __init__(self, client: Client, kind: str) -> None:
        self._client = client
        self._kind = kind
        self.asked = 0
        #: What came, by kind, and how often.
        self.came: dict[str, Counter[int]] = {}
        self.errors = 0
        self._stopped = False
        self._news = asyncio.Event()

    def stop(self) -> None:
        """Ask nothing more."""
        self._stopped = True

    async def ask(self) -> None:
        while not self._stopped:
            self.asked += 1
            await self._client.send({self._kind: self.asked})
            await asyncio.sleep(PAUSE)

    async def hear(self) -> None:
        while True:
            message = await self._client.receive()
            if "error" in message:
                self.errors += 1
            else:
                [(kind, number)] = message.items()
                self.came.setdefault(kind, Counter())[number] += 1
            self._news.set()

    def seen(self, kind: str) -> Counter[int]:
        return self.came.get(kind, Counter())

    async def wait_for(self, kind: str) -> None:
        """Wait until something of this kind has come."""
        while not self.seen(kind):
            await self._next()

    async def wait_for_all(self, answer: str) -> None:
        """Wait until every request has its outcome, and every job that was pushed has run."""
        while (
            self.seen(answer).total() + self.errors < self.asked
            or self.seen("pushed").keys() - self.seen("ran").keys()
        ):
            await self._next()

    async def _next(self) -> None:
        self._news.clear()
        await self._news.wait()


@contextlib.asynccontextmanager
async def asking(url: str, kind: str) -> AsyncIterator[Asker]:
    async with connected(url) as client:
        asker = Asker(client, kind)
        tasks = [asyncio.create_task(asker.hear()), asyncio.create_task(asker.ask())]
        try:
            yield asker
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def first_answer(url: str, kind: str, answer: str) -> None:
    """Return when a client that has just come is answered: it asks again and again."""
    patience = TRY
    while True:
        with contextlib.suppress(TimeoutError, InvalidHandshake):
            async with asyncio.timeout(patience), connected(url) as client:
                await client.send({kind: 1})
                while answer not in await client.receive():
                    pass
                return
        # A busy machine may need more for one exchange.
        patience = min(2 * patience, LONGEST_TRY)


@contextlib.asynccontextmanager
async def running(stack: Stack, *pool: str) -> AsyncIterator[None]:
    """A push server and a worker that serves everything, ready."""
    try:
        await asyncio.to_thread(stack.push_server)
        stack.worker(*pool)
        await asyncio.to_thread(stack.wait_until_ready)
        yield
    finally:
        print(stack.logs())  # noqa: T201
        await asyncio.to_thread(stack.end)


async def break_and_measure(stack: Stack, proxy: Proxy) -> dict[str, float]:
    """Let all links fall silent; after how many seconds requests and jobs are back, and how many
    requests ended with an error."""
    loop = asyncio.get_running_loop()
    async with (
        asking(stack.ws("/?user=ann"), "n") as requests,
        asking(stack.ws("/?user=bob"), "job") as jobs,
    ):
        await requests.wait_for("n")
        await jobs.wait_for("ran")
        assert proxy.half_open() > 0
        began = loop.time()

        async def back(user: str, kind: str, answer: str) -> float:
            await first_answer(stack.ws(f"/?user={user}"), kind, answer)
            return loop.time() - began

        took = await asyncio.gather(back("eve", "n", "n"), back("joe", "job", "ran"))
        requests.stop()
        jobs.stop()
        # What was asked meanwhile, and jobs that a dead link held.
        await asyncio.gather(requests.wait_for_all("n"), jobs.wait_for_all("pushed"))
    assert all(process.running for process in (*stack.push_servers, *stack.workers))
    for asker in (requests, jobs):
        for kind, seen in asker.came.items():
            # A request has one outcome. One that was on its way may run twice, and push twice.
            assert set(seen.values()) <= ({1, 2} if kind == "ran" else {1}), (kind, seen)
    return {"requests": took[0], "jobs": took[1], "errors": requests.errors + jobs.errors}


@pytest.mark.parametrize("pool", POOLS)
async def test_requests_and_jobs_are_back_when_all_links_to_redis_have_fallen_silent(
    redis_server: RedisServer, tmp_path: Path, pool: tuple[str, ...]
) -> None:
    app = write_files(tmp_path / "app", APP)
    async with Proxy(redis_server.port) as proxy:
        stack = Stack(f"redis://127.0.0.1:{proxy.port}/0", app, new_namespace(), **SETTINGS)
        async with running(stack, *pool):
            took = await break_and_measure(stack, proxy)
    print(took)  # noqa: T201
    assert max(took["requests"], took["jobs"]) <= BACK_WITHIN


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    broker = RabbitMQ()
    yield broker
    broker.end()


@pytest.mark.parametrize("pool", POOLS)
async def test_requests_and_jobs_are_back_when_all_links_to_rabbitmq_have_fallen_silent(
    redis_server: RedisServer, rabbitmq: RabbitMQ, tmp_path: Path, pool: tuple[str, ...]
) -> None:
    """The worker connects again while RabbitMQ still takes its old link for alive."""
    app = write_files(tmp_path / "app", APP)
    async with Proxy(rabbitmq.port) as proxy:
        broker = f"amqp://guest:guest@127.0.0.1:{proxy.port}//"
        stack = Stack(redis_server.url, app, new_namespace(), BROKER_URL=broker)
        async with running(stack, *pool):
            took = await break_and_measure(stack, proxy)
    print(took)  # noqa: T201
    assert max(took["requests"], took["jobs"]) <= BACK_WITHIN
    # What RabbitMQ sent over the dead link was run when it came back.
    assert took["errors"] == 0


#: Seconds of a handler that lets no other one run.
HELD_UP = {
    "sockets/index.py": """
import time

async def handler(data):
    if data.get("hold"):
        time.sleep(60)
    return data
""",
}


def missing(stack: Stack) -> list[str]:
    """What `/readyz` of the push server says is missing."""
    status, body = stack.push_servers[0].get("/readyz")
    found: list[str] = json.loads(body)["missing"]
    assert (status == 200) == (found == [])
    return found


async def test_readiness_tells_when_the_broker_does_not_answer_and_when_it_is_back(
    redis_server: RedisServer, own_redis: RedisServer, tmp_path: Path
) -> None:
    """Redis answers, and another one is the broker; nobody asks anything meanwhile."""
    app = write_files(tmp_path / "app", APP)
    async with Proxy(own_redis.port) as proxy:
        broker = f"redis://127.0.0.1:{proxy.port}/0"
        stack = Stack(redis_server.url, app, new_namespace(), BROKER_URL=broker)
        async with running(stack, "-P", "solo"):
            proxy.refusing = True
            proxy.half_open()
            await eventually_in_thread(
                lambda: missing(stack) == ["broker", "workers"], "what is missing to be told"
            )
            assert "lost the broker" in stack.push_servers[0].output
            proxy.refusing = False
            await eventually_in_thread(lambda: missing(stack) == [], "a push server that is ready")
            assert "the broker is back" in stack.push_servers[0].output
            async with connected(stack.ws("/?user=ann")) as client:
                assert await client.ask({"n": 1}) == {"n": 1}


@pytest.mark.parametrize("pool", [POOLS[0], POOLS[2]])
async def test_readiness_tells_when_the_only_worker_is_stuck(
    redis_server: RedisServer, tmp_path: Path, pool: tuple[str, ...]
) -> None:
    app = write_files(tmp_path / "app", HELD_UP)
    stack = Stack(redis_server.url, app, new_namespace())
    async with running(stack, *pool):
        async with connected(stack.ws("/")) as client:
            await client.send({"hold": True})
            await eventually_in_thread(lambda: missing(stack) == ["workers"], "a stuck worker")
            assert "this worker takes no requests" in stack.workers[0].output
        stack.workers[0].kill()


async def eventually_in_thread(check: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(eventually, check, what=what)

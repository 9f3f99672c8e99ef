"""RabbitMQ as the broker: messages, jobs, retries, groups and kills are the same as with Redis."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from tests.clients import Client, connected
from tests.conftest import new_namespace, write_files
from tests.processes import RedisServer, Stack
from tests.rabbitmq import RabbitMQ

APP = {
    "sockets/index.py": """
from queue_run import queues

async def handler(data):
    if "group" in data:
        return {"job": await queues.get("ordered").group(data["group"]).push(data)}
    return {"job": await queues.get("plain").push(data)}
""",
    "sockets/_middleware.py": """
async def on_authenticate(request):
    return {"id": request.query["user"]}
""",
    "queues/plain.py": """
import time
from queue_run import Config, socket

config = Config(timeout=60, retries=2, backoff=0.5, notify=True)

def handler(job, *, attempt):
    socket.send({"ran": job["n"], "attempt": attempt})
    if job.get("fails", 0) >= attempt:
        raise ValueError("not yet")
    if job.get("hangs", 0) >= attempt:
        time.sleep(50)
    time.sleep(job.get("seconds", 0))
""",
    "queues/ordered.py": """
from queue_run import Config, socket

config = Config(fifo=True)

async def handler(job, *, group_id):
    await socket.send({"group": group_id, "n": job["n"]})
""",
}


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    broker = RabbitMQ()
    yield broker
    broker.end()


@pytest.fixture(scope="module")
def stack(
    redis_server: RedisServer, rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """One for all tests of this file: to stop a worker of RabbitMQ takes some seconds."""
    app = write_files(tmp_path_factory.mktemp("rabbitmq") / "app", APP)
    stack = Stack(redis_server.url, app, new_namespace(), BROKER_URL=rabbitmq.url)
    stack.push_server()
    stack.worker("-P", "solo", queues="sockets")
    stack.worker("-c", "2", queues="jobs")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


class Listener:
    """A client whose reply may come before or after what its job sends: they are told apart."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.job = ""

    async def push(self, payload: dict[str, object]) -> None:
        await self._client.send(payload)

    async def hear(self) -> dict[str, object]:
        """The next message of a job."""
        message: dict[str, object] = await self._client.receive()
        if set(message) == {"job"}:
            self.job = str(message["job"])
            return await self.hear()
        return message


async def test_a_job_is_pushed_retried_and_told_as_finished(stack: Stack) -> None:
    async with connected(stack.ws("/?user=ann")) as client:
        ann = Listener(client)
        await ann.push({"n": 1, "fails": 1})
        assert await ann.hear() == {"ran": 1, "attempt": 1}
        assert await ann.hear() == {"ran": 1, "attempt": 2}
        assert await ann.hear() == {"event": "finished", "job": ann.job, "queue": "plain"}


async def test_the_jobs_of_a_group_keep_their_order(stack: Stack) -> None:
    async with connected(stack.ws("/?user=bob")) as bob:
        for n in range(30):
            await bob.send({"group": f"g{n % 3}", "n": n})
        received = [await bob.receive() for _ in range(60)]
    for group in ("g0", "g1", "g2"):
        ran = [each["n"] for each in received if each.get("group") == group]
        assert ran == list(range(int(group[1]), 30, 3))


async def test_the_job_of_a_killed_worker_comes_back_at_once(stack: Stack) -> None:
    async with connected(stack.ws("/?user=eve")) as client:
        eve = Listener(client)
        await eve.push({"n": 7, "hangs": 1})
        assert await eve.hear() == {"ran": 7, "attempt": 1}
        stack.workers[-1].kill()
        stack.worker("-c", "2", queues="jobs")
        assert await eve.hear() == {"ran": 7, "attempt": 2}
        assert await eve.hear() == {"event": "finished", "job": eve.job, "queue": "plain"}


async def test_the_job_of_a_killed_process_of_a_pool_comes_back_at_once(stack: Stack) -> None:
    async with connected(stack.ws("/?user=joe")) as client:
        joe = Listener(client)
        await joe.push({"n": 8, "hangs": 1})
        assert await joe.hear() == {"ran": 8, "attempt": 1}
        for child in stack.workers[-1].children:
            os.kill(child, signal.SIGKILL)
        assert await joe.hear() == {"ran": 8, "attempt": 2}
        assert await joe.hear() == {"event": "finished", "job": joe.job, "queue": "plain"}


async def test_workers_resume_after_their_broker_was_killed(
    stack: Stack, rabbitmq: RabbitMQ
) -> None:
    """No job is lost, and the same processes go on."""
    pids = [process.pid for process in stack.workers if process.running]
    async with connected(stack.ws("/?user=kim")) as kim:
        for n in range(20):
            await kim.send({"n": n, "seconds": 0.3})
        seen: list[dict[str, object]] = []
        while sum("job" in each and "event" not in each for each in seen) < 20:
            seen.append(await kim.receive())
        # All have been pushed, and most of them wait.
        await asyncio.to_thread(rabbitmq.kill)
        await asyncio.to_thread(rabbitmq.start)
        while sum(each.get("event") == "finished" for each in seen) < 20:
            seen.append(await kim.receive())
    assert {each["ran"] for each in seen if "ran" in each} == set(range(20))
    assert [process.pid for process in stack.workers if process.running] == pids

"""Another Redis takes over, as planned or after a crash, while the processes are at work.

All of them reach Redis at one address, that of a proxy, which then leads to another node.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from websockets.typing import Subprotocol

from queue_run import socket
from queue_run.contracts.ids import ServerId
from queue_run.contracts.keys import Keys
from queue_run.process.runtime import Runtime, using
from queue_run.settings import Settings
from tests.acceptance.test_silent_links import BACK_WITHIN, Asker, asking
from tests.clients import Client, connected
from tests.conftest import new_namespace, write_files
from tests.faults.proxy import Proxy
from tests.processes import RedisServer, Stack
from tests.replicas import Replicas
from tests.waiting import eventually_async

JOB = """
from queue_run import Config, socket
config = Config({config})
def handler(job, *, attempt):
    if {fails}:
        raise RuntimeError("once more")
    socket.send({{"ran": job}})
"""
APP = {
    "sockets/index.py": """
import uuid
from queue_run import Config, queues

#: An answer that the old Redis had holds up the next requests of its client for so long.
config = Config(timeout=3)

async def handler(data):
    [(kind, number)] = data.items()
    if kind == "ask":
        return data
    queue = queues.get(kind)
    if kind == "ordered":
        # The next test that pushes the same means another job.
        queue = queue.group("one").dedupe(uuid.uuid4().hex)
    await queue.push(number)
    return {"pushed": number}
""",
    "sockets/_middleware.py": """
async def on_authenticate(request):
    return {"id": request.query["user"]}
""",
    "queues/plain.py": JOB.format(config="", fails="False"),
    "queues/ordered.py": JOB.format(config="fifo=True", fails="False"),
    "queues/retried.py": JOB.format(config="retries=20, backoff=0.5", fails="attempt == 1"),
}
JOBS = ("plain", "ordered", "retried")
ENVELOPED = {"subprotocols": [Subprotocol("queue-run.v1")]}


pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def nodes() -> Iterator[Replicas]:
    found = Replicas()
    yield found
    found.end()


@contextlib.contextmanager
def stack_behind(proxy: Proxy, folder: Path, **variables: str) -> Iterator[Stack]:
    stack = Stack(
        f"redis://127.0.0.1:{proxy.port}/0",
        write_files(folder / "app", APP),
        new_namespace(),
        **{"QUEUE_RUN_DEADLINE_GRACE": "2", **variables},
    )
    try:
        yield stack
    finally:
        print(stack.logs())  # noqa: T201
        stack.end()


async def more_of(asker: Asker, kind: str) -> None:
    """Wait until something comes that was not there before."""
    before = len(asker.seen(kind))
    while len(asker.seen(kind)) <= before:
        await asker._next()


async def all_are_answered(askers: Mapping[str, Asker]) -> None:
    """Wait until each client, by what it asks for, has been answered once."""
    for kind, asker in askers.items():
        await asker.wait_for("ask" if kind == "ask" else "ran")


async def all_go_on(askers: Mapping[str, Asker]) -> None:
    """Requests and jobs are back; each request has its outcome, and each job runs once."""
    # The machine that runs the tests may stall; the laboratory holds the limit itself.
    async with asyncio.timeout(2 * BACK_WITHIN):
        for kind, asker in askers.items():
            await more_of(asker, "ask" if kind == "ask" else "ran")
    for kind, asker in askers.items():
        asker.stop()
        await asker.wait_for_all("ask" if kind == "ask" else "pushed")
    for kind in JOBS:
        ran = askers[kind].seen("ran")
        assert set(ran) >= set(askers[kind].seen("pushed"))
        assert max(ran.values()) == 1


@pytest.mark.parametrize("pool", [("solo",), ("prefork", "-c", "2")], ids=lambda pool: pool[0])
@pytest.mark.parametrize("planned", [True, False], ids=["planned", "crash"])
async def test_requests_and_jobs_go_on_with_another_redis(
    nodes: Replicas, tmp_path: Path, planned: bool, pool: tuple[str, ...]
) -> None:
    """No process ends, each request has its outcome, and each job that was pushed runs."""
    async with contextlib.AsyncExitStack() as held:
        proxy = await held.enter_async_context(Proxy(nodes.primary.port))
        stack = held.enter_context(stack_behind(proxy, tmp_path))
        server = await asyncio.to_thread(stack.push_server)
        worker = stack.worker("-P", *pool)
        await asyncio.to_thread(stack.wait_until_ready)
        askers = {
            kind: await held.enter_async_context(asking(stack.ws(f"/?user={kind}"), kind))
            for kind in ("ask", *JOBS)
        }
        await all_are_answered(askers)
        await asyncio.to_thread(nodes.fail_over if planned else nodes.promote)
        proxy.lead_to(nodes.primary.port)
        await all_go_on(askers)
        assert server.running
        assert worker.running


def send(stack: Stack, redis: RedisServer, text: str) -> None:
    """Send to both users, over a link of this process to this node."""
    settings = Settings.from_env(stack.environ(REDIS_URL=redis.url))
    with using(Runtime(settings)):
        socket.to(["ann", "bob"]).send(text)


async def frames_until(client: Client, data: str) -> list[Any]:
    """What a client was told, up to this message: its content, or the type of a frame."""
    told: list[Any] = []
    while not told or told[-1] != data:
        frame = await client.receive()
        if frame["type"] != "ping":
            told.append(frame.get("data", frame["type"]))
    return told


async def test_a_failover_that_loses_messages_is_told_to_each_client_once(
    nodes: Replicas, tmp_path: Path
) -> None:
    """What the old primary took last reached neither its replica nor the push servers."""
    async with contextlib.AsyncExitStack() as held:
        replication = await held.enter_async_context(Proxy(nodes.primary.port))
        await asyncio.to_thread(nodes.follow, replication.port)
        proxy = await held.enter_async_context(Proxy(nodes.primary.port))
        stack = held.enter_context(stack_behind(proxy, tmp_path))
        servers = [await asyncio.to_thread(stack.push_server) for _ in range(2)]
        stack.worker("-P", "solo")
        await asyncio.to_thread(stack.wait_until_ready)
        clients = [
            await held.enter_async_context(
                connected(stack.ws(f"/?user={user}", server=number), **ENVELOPED)
            )
            for number, user in enumerate(("ann", "bob"))
        ]
        for client in clients:
            await client.send({"type": "start"})
        await asyncio.to_thread(send, stack, nodes.primary, "before")
        for client in clients:
            assert (await frames_until(client, "before"))[-1] == "before"
        replication.freeze()
        proxy.freeze()
        await asyncio.to_thread(send, stack, nodes.primary, "lost")
        await asyncio.to_thread(nodes.promote, at_once=True)
        proxy.lead_to(nodes.primary.port)
        proxy.cut()
        proxy.resume()
        await eventually_async(
            lambda: all(each.get("/readyz")[0] == 200 for each in servers), what="readiness"
        )
        await asyncio.to_thread(send, stack, nodes.primary, "next")
        for client in clients:
            assert await frames_until(client, "next") == ["gap", "next"]
        # Heartbeats compare what they find with what was told.
        with nodes.primary.client() as admin:
            await heartbeats(admin, stack)
        await asyncio.to_thread(send, stack, nodes.primary, "last")
        for client in clients:
            assert await frames_until(client, "last") == ["last"]
        assert all(each.running for each in (*servers, *stack.workers))


async def heartbeats(admin: Redis, stack: Stack) -> None:
    """Wait until each push server has had a whole heartbeat."""
    for _ in range(2):
        streams: Any = admin.keys(f"{Keys(stack.namespace).server(ServerId(''))}*")
        assert len(streams) == 2
        for stream in streams:
            admin.pexpire(stream, 20_000)
        await eventually_async(
            lambda streams=streams: all(admin.pttl(stream) > 20_000 for stream in streams),  # type: ignore[misc]
            what="heartbeats",
        )

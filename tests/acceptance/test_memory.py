"""What messages take in Redis is bounded in bytes, whoever reads them or not."""

import asyncio
import signal
from typing import Any

import pytest

from queue_run import socket
from queue_run.client import Client, connect
from queue_run.contracts.keys import Keys
from queue_run.process import runtime
from queue_run.process.runtime import Runtime
from queue_run.settings import Settings
from tests.clients import connected
from tests.conftest import NewStack, WriteApp
from tests.processes import RedisServer, Stack
from tests.waiting import DEADLINE, eventually, eventually_async

MIB = 1024 * 1024
#: Bytes of a reply.
SIZE = 300_000

FILES = {
    "sockets/_middleware.py": "def on_authenticate(request):\n    return {'id': 'ann'}\n",
    "sockets/index.py": f"def handler(data):\n    return str(data).ljust({SIZE}, 'x')\n",
}


class World:
    """A stack, and what its streams take."""

    def __init__(self, redis: RedisServer, stack: Stack) -> None:
        self.redis: Any = redis.client()
        self.stack = stack
        self.keys = Keys(stack.namespace)

    def memory(self, stream: str) -> int:
        return int(self.redis.memory_usage(stream, samples=0) or 0)

    @property
    def replies(self) -> str:
        """The stream of the push server."""
        [name] = self.redis.keys(self.keys.server("*"))  # type: ignore[arg-type]
        return str(name)

    async def start(self, servers: int = 1) -> None:
        for _ in range(servers):
            await asyncio.to_thread(self.stack.push_server)
        self.stack.worker("-P", "solo")
        await asyncio.to_thread(self.stack.wait_until_ready)

    def send(self, count: int, size: int = MIB - 1000) -> None:
        """So many messages to somebody who is nowhere."""
        with runtime.using(Runtime(Settings.from_env(self.stack.environ()))):
            for _ in range(count):
                socket.to("nobody").send("x" * size)


@pytest.fixture
def world(redis_server: RedisServer, new_stack: NewStack, write_app: WriteApp) -> World:
    stack = new_stack(
        redis_server,
        write_app(FILES),
        QUEUE_RUN_WINDOW_BYTES=str(4 * MIB),
        QUEUE_RUN_BROADCAST_BYTES=str(16 * MIB),
    )
    return World(redis_server, stack)


def test_messages_that_nobody_reads_are_bounded(world: World) -> None:
    world.send(60)
    assert 8 * MIB < world.memory(world.keys.broadcast) <= 18 * MIB


async def test_messages_that_push_servers_read_are_bounded(world: World) -> None:
    await world.start(servers=2)
    await asyncio.to_thread(world.send, 60)
    memory = world.memory
    await eventually_async(lambda: memory(world.keys.broadcast) <= 18 * MIB, what="the bound")
    assert memory(world.keys.broadcast) > 8 * MIB


async def test_replies_to_plain_clients_are_gone_when_they_are_read(world: World) -> None:
    await world.start()
    async with connected(world.stack.ws(), max_size=None) as client:
        for number in range(60):
            assert await client.ask(number) == str(number).ljust(SIZE, "x")
        await eventually_async(lambda: world.memory(world.replies) <= MIB, what="the trimming")
        # Nobody took that for a loss.
        assert await client.ask("last") == "last".ljust(SIZE, "x")
    assert "were lost before" not in world.stack.logs()


async def test_replies_that_a_session_may_ask_for_again_are_bounded(world: World) -> None:
    await world.start()
    async with connect(world.stack.ws(), token="ann", connect_timeout=DEADLINE) as client:
        for number in range(60):
            assert await client.request(number) == str(number).ljust(SIZE, "x")
        # As much as the window, and what is not trimmed yet.
        await eventually_async(lambda: world.memory(world.replies) <= 6 * MIB, what="the bound")
        assert world.memory(world.replies) > MIB
    assert "were lost before" not in world.stack.logs()


async def test_replies_that_their_push_server_does_not_read_are_bounded(world: World) -> None:
    await world.start()
    async with connected(world.stack.ws(), max_size=None) as client:
        assert await client.ask("first") == "first".ljust(SIZE, "x")
        server = world.stack.push_servers[0]
        stream = world.replies
        connection = f"{stream.rpartition(':')[2]}-1"
        server.send(signal.SIGSTOP)
        try:
            await asyncio.to_thread(_reply, world, connection, 60)
            assert world.memory(stream) <= 18 * MIB
        finally:
            server.send(signal.SIGCONT)


def _reply(world: World, connection: str, count: int) -> None:
    """Answer a connection that did not ask: what its worker would write."""
    from queue_run.contracts.envelopes import Outcome, encode
    from queue_run.contracts.ids import ConnectionId, RequestId, server_of
    from queue_run.contracts.messages import encode as encode_message

    made = Runtime(Settings.from_env(world.stack.environ()))
    to = ConnectionId(connection)
    for number in range(count):
        reply = encode_message("x" * (MIB - 1000), limit=MIB)
        outcome = Outcome(connection=to, request=RequestId(f"{to}-x{number}"), reply=reply)
        made.publisher.publish(
            made.keys.server(server_of(to)), encode(outcome), max_entries=10_000, create=False
        )
    made.close()


async def test_who_was_cut_off_is_told_of_a_gap(world: World) -> None:
    """Also who stood still for a second only."""
    await world.start()
    gaps: list[bool] = []
    client: Client = connect(
        world.stack.ws(),
        token="ann",
        on_gap=lambda: gaps.append(True),
        connect_timeout=DEADLINE,
    )

    async def listen() -> None:
        async for _ in client:
            pass

    async with client:
        listening = asyncio.create_task(listen())
        assert str(await client.request(1)).startswith("1x")
        server = world.stack.push_servers[0]
        server.send(signal.SIGSTOP)
        await asyncio.to_thread(world.send, 60)
        server.send(signal.SIGCONT)
        await eventually_async(lambda: gaps, what="a gap")
        assert str(await client.request(2)).startswith("2x")
    await listening
    eventually(lambda: "were lost before" in world.stack.logs(), what="a line in the log")

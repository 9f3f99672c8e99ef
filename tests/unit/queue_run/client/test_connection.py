"""One WebSocket of a client, against a real socket."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.exceptions import InvalidStatus

from queue_run.client.connection import Connection, Lost, OtherProtocol, open_socket
from queue_run.client.errors import Rejected
from queue_run.client.protocol import Protocol
from tests.processes import environment
from tests.unit.queue_run.client.fake_server import FakeServer, Peer
from tests.waiting import DEADLINE, eventually_async


@asynccontextmanager
async def opened(
    server: FakeServer, *, grace: float = DEADLINE
) -> AsyncIterator[tuple[Connection, Peer, Protocol]]:
    protocol = Protocol()
    protocol.opened()
    connection = Connection(await open_socket(server.url, {}, None), protocol, grace)
    try:
        yield connection, await server.accept(), protocol
    finally:
        connection.discard()


async def greeted(connection: Connection, peer: Peer, protocol: Protocol, heartbeat: int) -> None:
    """Let the protocol know the server's heartbeat, in milliseconds."""
    greeting = asyncio.create_task(peer.welcome(heartbeat=heartbeat))
    protocol.receive(await connection.receive(), 0.0)
    connection.flush()
    assert await greeting == {"type": "start"}


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_for_good_says_why(status: int) -> None:
    async with FakeServer() as server:
        server.refusals = [status]
        with pytest.raises(Rejected) as raised:
            await open_socket(server.url, {}, None)
    assert (raised.value.code, raised.value.reason) == (status, "not you")


@pytest.mark.parametrize("status", [400, 429, 500, 503])
async def test_another_status_is_a_failure_like_others(status: int) -> None:
    async with FakeServer() as server:
        server.refusals = [status]
        with pytest.raises(InvalidStatus):
            await open_socket(server.url, {}, None)


async def test_a_server_without_the_protocol_is_named_as_such() -> None:
    async with FakeServer(subprotocol=None) as server:
        with pytest.raises(OtherProtocol, match=r"queue-run\.v1"):
            await open_socket(server.url, {}, None)


async def test_headers_go_with_the_handshake() -> None:
    async with FakeServer() as server:
        socket = await open_socket(server.url, {"X-Device": "tablet"}, None)
        peer = await server.accept()
        await socket.close()
    assert peer.headers["X-Device"] == "tablet"


async def test_frames_are_read_until_the_socket_ends() -> None:
    async with FakeServer() as server, opened(server) as (connection, peer, _):
        await peer.send(type="pong")
        await peer.close(4000, "enough")
        assert await connection.receive() == b'{"type": "pong"}'
        with pytest.raises(Lost, match="closed with 4000 enough") as raised:
            await connection.receive()
    assert (raised.value.code, raised.value.reason) == (4000, "enough")


async def test_a_socket_that_is_cut_ends_without_a_close_frame() -> None:
    async with FakeServer() as server, opened(server) as (connection, peer, _):
        peer.cut()
        with pytest.raises(Lost) as raised:
            await connection.receive()
    assert raised.value.code == 1006


async def test_a_silent_server_has_gone_after_its_heartbeat_and_the_grace() -> None:
    async with FakeServer() as server, opened(server, grace=0.3) as (connection, peer, protocol):
        await greeted(connection, peer, protocol, heartbeat=400)
        with pytest.raises(Lost) as raised:
            await connection.receive()
        assert raised.value.code == 1006
        # It stood at least for so long since it was heard, and was not ended at once.
        assert connection.age >= 0.7


async def test_a_server_that_is_heard_stays() -> None:
    async with FakeServer() as server, opened(server, grace=2) as (connection, peer, protocol):
        await greeted(connection, peer, protocol, heartbeat=1000)
        # Longer than its patience with a server that is silent.
        while connection.age < 4:
            await peer.send(type="ping")
            await connection.receive()
            await asyncio.sleep(0.3)


async def test_a_process_that_stood_still_reads_first_what_came_meanwhile() -> None:
    async with FakeServer() as server, opened(server, grace=1.6) as (connection, peer, protocol):
        await greeted(connection, peer, protocol, heartbeat=400)
        reading = asyncio.create_task(connection.receive())
        await peer.send(type="ping", offset="9-0")
        time.sleep(2.5)  # noqa: ASYNC251 - the process stands still.
        assert b"9-0" in await reading
        await peer.send(type="ping", offset="10-0")
        assert b"10-0" in await connection.receive()


async def test_who_takes_no_messages_says_nothing_about_the_server() -> None:
    async with FakeServer() as server, opened(server, grace=0.3) as (connection, peer, protocol):
        await greeted(connection, peer, protocol, heartbeat=100)
        connection.pause()
        await peer.send(type="ping", offset="9-0")
        await eventually_async(lambda: connection.age > 2.0, what="many times its patience")
        await peer.send(type="ping", offset="10-0")
        connection.go_on()
        for offset in (b"9-0", b"10-0"):
            assert offset in await connection.receive()


async def test_all_that_the_protocol_says_is_written_in_order() -> None:
    async with FakeServer() as server, opened(server) as (connection, peer, protocol):
        for number in range(50):
            protocol.request(number)
        await greeted(connection, peer, protocol, heartbeat=60_000)
        assert [(await peer.receive())["data"] for _ in range(50)] == list(range(50))


async def test_a_socket_that_has_ended_takes_no_frames() -> None:
    async with FakeServer() as server, opened(server) as (connection, peer, protocol):
        await greeted(connection, peer, protocol, heartbeat=60_000)
        peer.cut()
        with pytest.raises(Lost):
            await connection.receive()
        number = protocol.request("late")
        connection.flush()
        await asyncio.sleep(0)
        assert not protocol.was_written(number)


async def test_a_move_ends_it_after_its_time_with_what_came_before() -> None:
    async with FakeServer() as server, opened(server) as (connection, peer, _):
        connection.move(0.2)
        connection.move(DEADLINE)
        closed = asyncio.create_task(peer.closed())
        await peer.send(type="pong")
        assert await connection.receive() == b'{"type": "pong"}'
        with pytest.raises(Lost):
            await connection.receive()
        assert connection.moved
        assert await closed == 1000


def test_without_websockets_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['websockets'] = None; import queue_run.client"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert ran.returncode == 1
    assert "pip install 'queue-run[client]'" in ran.stderr

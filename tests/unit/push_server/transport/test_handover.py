"""From Tornado's stream to ours: what a release of Tornado may break."""

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from tornado.iostream import IOStream, StreamClosedError

from push_server.transport.handover import take_over
from tests.waiting import eventually_async


class Streamed(NamedTuple):
    stream: IOStream
    peer: socket.socket


@pytest.fixture
async def streamed() -> AsyncIterator[Streamed]:
    """A stream with which a request was read, as an HTTP server leaves it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    stream = IOStream(ours)
    yield Streamed(stream, peer)
    stream.close()
    peer.close()


async def read_request(streamed: Streamed, then: bytes = b"") -> None:
    streamed.peer.sendall(b"request" + then)
    assert await streamed.stream.read_until(b"request") == b"request"


async def test_the_socket_is_ours_and_does_not_block(streamed: Streamed) -> None:
    await read_request(streamed)
    taken = take_over(streamed.stream)
    assert taken is not None
    assert taken.early == b""
    assert taken.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pytest.raises(BlockingIOError):
        taken.socket.recv(1)
    taken.socket.send(b"hello")
    assert streamed.peer.recv(10) == b"hello"
    taken.socket.close()


async def test_what_the_client_has_sent_early_comes_with_it(streamed: Streamed) -> None:
    # More than the stream reads at once.
    early = bytes(range(256)) * 200
    await read_request(streamed, early)
    taken = take_over(streamed.stream)
    assert taken is not None
    taken.socket.setblocking(True)
    rest = bytearray(taken.early)
    while len(rest) < len(early):
        rest += taken.socket.recv(65_536)
    assert rest == early
    taken.socket.close()


async def test_the_loop_serves_the_stream_no_more(streamed: Streamed) -> None:
    await read_request(streamed)
    # As a server does while it waits for the response: to see that the client leaves.
    streamed.stream.set_close_callback(lambda: None)
    streamed.stream.set_close_callback(None)
    taken = take_over(streamed.stream)
    assert taken is not None
    read: list[bytes] = []
    loop = asyncio.get_running_loop()
    loop.add_reader(taken.socket, lambda: read.append(taken.socket.recv(100)))
    streamed.peer.sendall(b"for us")
    await eventually_async(lambda: read, what="the bytes")
    assert read == [b"for us"]
    loop.remove_reader(taken.socket)
    taken.socket.close()


async def test_of_the_stream_nothing_is_left(streamed: Streamed) -> None:
    await read_request(streamed)
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    stream = IOStream(ours)
    peer.sendall(b"request")
    await stream.read_until(b"request")
    gone = weakref.ref(stream)
    gc.disable()
    try:
        taken = take_over(stream)
        del stream, ours
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()
    assert taken is not None
    taken.socket.close()
    peer.close()


async def test_a_client_that_has_gone_leaves_nothing_to_take(streamed: Streamed) -> None:
    await read_request(streamed)
    streamed.peer.close()
    assert take_over(streamed.stream) is None
    assert streamed.stream.closed()
    assert take_over(streamed.stream) is None


async def test_a_stream_that_was_closed_cannot_be_written(streamed: Streamed) -> None:
    """What the handler must not do after it has taken the socket, or found none."""
    streamed.stream.close()
    assert take_over(streamed.stream) is None
    with pytest.raises(StreamClosedError):
        await streamed.stream.write(b"late")

"""One connection's outgoing bytes, on a real pair of sockets."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

import pytest
from tornado.iostream import IOStream

from push_server.outbox import SEND_BUFFER, Outbox
from tests.waiting import DEADLINE, eventually_async

CAP = 4 * 1024 * 1024


class Pair:
    """An outbox, and the peer that it writes to."""

    def __init__(self, max_bytes: int) -> None:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.peer.setblocking(False)
        self.stream = IOStream(ours)
        # TCP_NODELAY is for TCP; a socket pair has nothing to delay.
        self.stream.set_nodelay = lambda value: None  # type: ignore[method-assign]
        self.outbox = Outbox(self.stream, "s1-1", max_bytes=max_bytes)

    async def read(self, count: int) -> bytes:
        """So many bytes, as the peer gets them."""
        got = bytearray()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            while len(got) < count:
                got += await loop.sock_recv(self.peer, min(65_536, count - len(got)))
        return bytes(got)

    async def rest(self) -> bytes:
        """All bytes up to the end."""
        got = bytearray()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            while chunk := await loop.sock_recv(self.peer, 65_536):
                got += chunk
        return bytes(got)

    def fill(self) -> bytes:
        """Write until the peer's side takes no more; what was written."""
        written = bytearray()
        while not self.stream.writing():
            frame = len(written).to_bytes(8, "big") * 4096
            self.outbox.write(frame)
            written += frame
        return bytes(written)

    def close(self) -> None:
        self.stream.close()
        self.peer.close()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair(CAP)
    yield made
    made.close()


async def test_a_frame_is_sent_at_once(pair: Pair) -> None:
    pair.outbox.write(b"frame")
    # The loop has not run in between.
    assert pair.peer.recv(100) == b"frame"
    assert not pair.stream.writing()


async def test_what_the_peer_does_not_take_is_queued_and_follows_in_order(pair: Pair) -> None:
    written = pair.fill()
    assert pair.stream.writing()
    for number in range(50):
        frame = b"%05d" % number * 100
        pair.outbox.write(frame)
        written += frame
    assert await pair.read(len(written)) == written


async def test_room_in_the_kernel_lets_no_frame_overtake_those_that_are_queued(pair: Pair) -> None:
    written = pair.fill()
    got = pair.peer.recv(len(written))
    # The loop has not run in between: what was queued is still there.
    pair.outbox.write(b"next")
    assert got + await pair.read(len(written) + 4 - len(got)) == written + b"next"


async def test_a_frame_that_was_sent_in_part_is_completed(pair: Pair) -> None:
    frame = bytes(range(256)) * 8192
    pair.outbox.write(frame)
    assert pair.stream.writing()
    pair.outbox.write(b"next")
    assert await pair.read(len(frame) + 4) == frame + b"next"


async def test_once_the_queue_is_empty_frames_are_sent_at_once_again(pair: Pair) -> None:
    written = pair.fill()
    await pair.read(len(written))
    await eventually_async(lambda: not pair.stream.writing(), what="an empty queue")
    pair.outbox.write(b"frame")
    assert pair.peer.recv(100) == b"frame"


async def test_a_client_too_far_behind_is_dropped_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pair = Pair(1024 * 1024)
    pair.fill()
    with caplog.at_level(logging.WARNING):
        for _ in range(1024 * 1024 // 1000 + 1):
            pair.outbox.write(b"x" * 1000)
    assert pair.stream.closed()
    assert caplog.messages == ["s1-1: dropped: slow consumer: more than 1048576 bytes unsent"]
    pair.close()


async def test_up_to_the_cap_a_slow_client_loses_nothing(pair: Pair) -> None:
    written = pair.fill()
    rest = b"x" * (CAP - len(written))
    pair.outbox.write(rest)
    assert not pair.stream.closed()
    assert await pair.read(CAP) == written + rest


async def test_after_the_close_nothing_is_sent(pair: Pair) -> None:
    pair.stream.close()
    pair.outbox.write(b"late")
    assert await pair.rest() == b""


async def test_a_peer_that_has_gone_closes_the_stream(pair: Pair) -> None:
    pair.peer.close()
    pair.outbox.write(b"x")
    assert pair.stream.closed()
    pair.outbox.write(b"y")


async def test_what_is_discarded_is_not_sent(pair: Pair) -> None:
    written = pair.fill()
    pair.outbox.write(b"left behind")
    pair.outbox.discard()
    assert pair.stream.closed()
    got = await pair.rest()
    assert written.startswith(got)
    assert b"left behind" not in got


async def test_an_abort_is_told_once(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.outbox.abort("silent for 50 seconds")
    pair.outbox.abort("silent for 75 seconds")
    assert pair.stream.closed()
    assert caplog.messages == ["s1-1: dropped: silent for 50 seconds"]


async def test_the_kernel_buffers_little_for_a_client_that_does_not_read(pair: Pair) -> None:
    # Linux doubles what it is asked for, for its own bookkeeping.
    size = pair.stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert size <= 2 * SEND_BUFFER


async def test_closed_while_queued_bytes_wait_is_no_error(pair: Pair) -> None:
    pair.fill()
    pair.stream.close()
    pair.outbox.write(b"late")


async def test_frames_that_wait_are_one_object_for_all_who_are_behind() -> None:
    pairs = [Pair(CAP) for _ in range(2)]
    frame = b"x" * 2000
    for pair in pairs:
        pair.fill()
        pair.outbox.write(frame)
        assert pair.outbox._waiting is not None
        assert pair.outbox._waiting[-1] is frame
        pair.close()


async def test_what_waits_is_written_before_what_follows_a_flush(pair: Pair) -> None:
    written = pair.fill()
    pair.outbox.write(b"waits")
    pair.outbox.flush()
    pair.outbox.flush()
    await_close = pair.stream.write(b"close")
    assert await pair.read(len(written) + 10) == written + b"waits" + b"close"
    await await_close


async def test_it_is_jammed_until_everything_is_with_the_kernel(pair: Pair) -> None:
    written = pair.fill()
    frames = [b"%06d" % number * 5_000 for number in range(20)]
    for frame in frames:
        pair.outbox.write(frame)
    assert pair.outbox.jammed
    drained = asyncio.create_task(pair.outbox.drained())
    expected = written + b"".join(frames)
    assert await pair.read(len(expected)) == expected
    async with asyncio.timeout(DEADLINE):
        await drained
    assert not pair.outbox.jammed


async def test_waiting_for_a_client_that_leaves_ends(pair: Pair) -> None:
    pair.fill()
    drained = asyncio.create_task(pair.outbox.drained())
    await asyncio.sleep(0)
    pair.stream.close()
    async with asyncio.timeout(DEADLINE):
        await drained


async def test_one_message_may_be_larger_than_the_cap() -> None:
    """As base64, the largest message is: its client would be dropped at each resume."""
    pair = Pair(1024 * 1024)
    large = bytes(range(256)) * 3 * 4096
    pair.outbox.write(large)
    pair.outbox.write(b"ping")
    assert not pair.stream.closed()
    assert await pair.read(len(large) + 4) == large + b"ping"
    pair.close()


async def test_behind_a_large_message_the_cap_holds(caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair(1024 * 1024)
    pair.outbox.write(b"x" * 3 * 1024 * 1024)
    for _ in range(1024):
        pair.outbox.write(b"x" * 1024)
    assert not pair.stream.closed()
    pair.outbox.write(b"x")
    assert pair.stream.closed()
    assert "slow consumer" in caplog.text
    pair.close()

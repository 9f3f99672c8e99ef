"""One connection's socket, on a real pair of sockets."""

import asyncio
import logging
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from push_server.rfc6455.close_frames import close_frame
from push_server.rfc6455.frames import pong_frame
from push_server.transport import wire as wire_module
from push_server.transport.wire import SEND_BUFFER, ClientLimits, Wire
from tests.unit.push_server.frames import client_close, client_frame
from tests.waiting import DEADLINE, eventually_async

CAP = 4 * 1024 * 1024
FIRST = b"101"
LIMITS = ClientLimits(max_message_bytes=64 * 1024, max_unsent_bytes=CAP, max_message_rate=1_000_000)


class Owner:
    """Whose wire it is."""

    def __str__(self) -> str:
        return "s1-1"


class Recorder:
    """Keeps what is received."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.heard_from: set[str] = set()
        self.ends: list[int | None] = []
        #: What is to be waited for after a message, or raised.
        self.answers: dict[str | bytes, Awaitable[None] | Exception] = {}

    def inbound(self, owner: Any, message: str | bytes) -> Awaitable[None] | None:
        self.messages.append(message)
        answer = self.answers.get(message)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def heard(self, owner: Any) -> None:
        self.heard_from.add(str(owner))

    def closed(self, owner: Any, code: int | None) -> None:
        self.ends.append(code)


class Pair:
    """A wire, and the peer at its other end."""

    def __init__(self, limits: ClientLimits = LIMITS) -> None:
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)
        self.peer.setblocking(False)
        self.receiver = Recorder()
        self.wire = Wire(self.socket, limits, owner="s1-1", first=FIRST)
        self.wire.belong_to(self.receiver, Owner())

    def start(self, early: bytes = b"") -> "Pair":
        self.wire.start(early)
        assert self.peer.recv(len(FIRST)) == FIRST
        return self

    async def read(self, count: int) -> bytes:
        """So many bytes, as the peer gets them."""
        got = bytearray()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            while len(got) < count:
                chunk = await loop.sock_recv(self.peer, min(65_536, count - len(got)))
                assert chunk, "the end"
                got += chunk
        return bytes(got)

    async def rest(self) -> bytes:
        """All bytes up to the end."""
        got = bytearray()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            while chunk := await loop.sock_recv(self.peer, 65_536):
                got += chunk
        return bytes(got)

    async def send(self, *frames: bytes) -> None:
        """Send as the client."""
        async with asyncio.timeout(DEADLINE):
            await asyncio.get_running_loop().sock_sendall(self.peer, b"".join(frames))

    async def received(self, *messages: str | bytes) -> None:
        """Wait until just these messages have come."""
        await eventually_async(
            lambda: len(self.receiver.messages) >= len(messages), what="the messages"
        )
        assert self.receiver.messages == list(messages)

    async def ended(self) -> int | None:
        """Wait for the end; the code that it came with."""
        await eventually_async(lambda: self.receiver.ends, what="the end")
        [code] = self.receiver.ends
        return code

    def fill(self) -> bytes:
        """Write until the peer's side takes no more; what was written."""
        written = bytearray()
        while not self.wire.jammed:
            frame = len(written).to_bytes(8, "big") * 4096
            self.wire.write(frame)
            written += frame
        return bytes(written)

    def closed(self) -> bool:
        return self.socket.fileno() == -1

    async def close(self) -> None:
        self.peer.close()
        if not self.closed():
            self.wire.abort("the test is over")
        await asyncio.sleep(0)


NewPair = Callable[..., Pair]


@pytest.fixture
async def new_pair() -> AsyncIterator[NewPair]:
    made: list[Pair] = []

    def make(**limits: Any) -> Pair:
        made.append(Pair(LIMITS._replace(**limits)))
        return made[-1]

    yield make
    for each in made:
        await each.close()
        assert len(each.receiver.ends) == 1


@pytest.fixture
async def pair(new_pair: NewPair) -> Pair:
    return new_pair().start()


# To the client


async def test_a_frame_is_sent_at_once(pair: Pair) -> None:
    pair.wire.write(b"frame")
    # The loop has not run in between.
    assert pair.peer.recv(100) == b"frame"
    assert not pair.wire.jammed


async def test_what_is_written_before_the_start_follows_what_is_first(new_pair: NewPair) -> None:
    pair = new_pair()
    pair.wire.write(b"welcome")
    with pytest.raises(BlockingIOError):
        pair.peer.recv(100)
    pair.wire.start(b"")
    assert pair.peer.recv(100) == FIRST + b"welcome"
    assert not pair.wire.jammed


async def test_a_start_for_which_there_is_no_room_goes_on_later(new_pair: NewPair) -> None:
    pair = new_pair()
    filling = b"x" * 4096
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += pair.socket.send(filling)
    pair.wire.start(client_frame("early"))
    assert pair.wire.jammed
    assert await pair.read(sent + len(FIRST)) == b"x" * sent + FIRST
    await pair.received("early")


async def test_what_the_peer_does_not_take_is_queued_and_follows_in_order(pair: Pair) -> None:
    written = pair.fill()
    assert pair.wire.jammed
    for number in range(50):
        frame = b"%05d" % number * 100
        pair.wire.write(frame)
        written += frame
    assert await pair.read(len(written)) == written


async def test_room_in_the_kernel_lets_no_frame_overtake_those_that_are_queued(pair: Pair) -> None:
    written = pair.fill()
    got = pair.peer.recv(len(written))
    # The loop has not run in between: what was queued is still there.
    pair.wire.write(b"next")
    assert got + await pair.read(len(written) + 4 - len(got)) == written + b"next"


async def test_a_frame_that_was_sent_in_part_is_completed(pair: Pair) -> None:
    frame = bytes(range(256)) * 8192
    pair.wire.write(frame)
    assert pair.wire.jammed
    pair.wire.write(b"next")
    assert await pair.read(len(frame) + 4) == frame + b"next"


async def test_once_the_queue_is_empty_frames_are_sent_at_once_again(pair: Pair) -> None:
    written = pair.fill()
    await pair.read(len(written))
    await eventually_async(lambda: not pair.wire.jammed, what="an empty queue")
    pair.wire.write(b"frame")
    assert pair.peer.recv(100) == b"frame"


async def test_a_client_too_far_behind_is_dropped_and_named(
    new_pair: NewPair, caplog: pytest.LogCaptureFixture
) -> None:
    pair = new_pair(max_unsent_bytes=1024 * 1024).start()
    pair.fill()
    with caplog.at_level(logging.WARNING):
        for _ in range(1024 * 1024 // 1000 + 1):
            pair.wire.write(b"x" * 1000)
    assert pair.closed()
    assert caplog.messages == ["s1-1: dropped: slow consumer: more than 1048576 bytes unsent"]
    assert await pair.ended() is None


async def test_up_to_the_cap_a_slow_client_loses_nothing(pair: Pair) -> None:
    written = pair.fill()
    rest = b"x" * (CAP - len(written))
    pair.wire.write(rest)
    assert not pair.closed()
    assert await pair.read(CAP) == written + rest


async def test_one_message_may_be_larger_than_the_cap(new_pair: NewPair) -> None:
    """As base64, the largest message is: its client would be dropped at each resume."""
    pair = new_pair(max_unsent_bytes=1024 * 1024).start()
    large = bytes(range(256)) * 3 * 4096
    pair.wire.write(large)
    pair.wire.write(b"ping")
    assert not pair.closed()
    assert await pair.read(len(large) + 4) == large + b"ping"


async def test_behind_a_large_message_the_cap_holds(
    new_pair: NewPair, caplog: pytest.LogCaptureFixture
) -> None:
    pair = new_pair(max_unsent_bytes=1024 * 1024).start()
    pair.wire.write(b"x" * 3 * 1024 * 1024)
    for _ in range(1024):
        pair.wire.write(b"x" * 1024)
    assert not pair.closed()
    pair.wire.write(b"x")
    assert pair.closed()
    assert "slow consumer" in caplog.text


async def test_a_peer_that_has_gone_ends_it(pair: Pair) -> None:
    pair.peer.close()
    pair.wire.write(b"x")
    assert pair.closed()
    # Whoever writes may be in the midst of something.
    assert pair.receiver.ends == []
    pair.wire.write(b"y")
    pair.wire.ping()
    pair.wire.close(1000, "")
    pair.wire.abort("gone")
    assert await pair.ended() is None


async def test_a_peer_that_goes_while_bytes_wait_ends_it(pair: Pair) -> None:
    pair.fill()
    pair.peer.close()
    assert await pair.ended() is None
    assert pair.closed()


async def test_who_is_dropped_is_told_with_the_address(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.wire.address = "203.0.113.5"
    pair.wire.abort("silent for 50 seconds")
    assert caplog.messages == ["s1-1: dropped: silent for 50 seconds (from 203.0.113.5)"]


async def test_an_abort_is_told_once_and_what_waits_is_not_sent(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    written = pair.fill()
    pair.wire.write(b"left behind")
    pair.wire.abort("silent for 50 seconds")
    pair.wire.abort("silent for 75 seconds")
    assert pair.closed()
    assert caplog.messages == ["s1-1: dropped: silent for 50 seconds"]
    assert written.startswith(await pair.rest())


async def test_the_kernel_buffers_little_for_a_client_that_does_not_read(pair: Pair) -> None:
    # Linux doubles what it is asked for, for its own bookkeeping.
    assert pair.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER


async def test_frames_that_wait_are_one_object_for_all_who_are_behind(new_pair: NewPair) -> None:
    frame = b"x" * 2000
    for pair in (new_pair().start(), new_pair().start()):
        pair.fill()
        pair.wire.write(frame)
        assert pair.wire._waiting is not None
        assert pair.wire._waiting[-1] is frame


async def test_it_is_jammed_until_everything_is_with_the_kernel(pair: Pair) -> None:
    written = pair.fill()
    frames = [b"%06d" % number * 5_000 for number in range(20)]
    for frame in frames:
        pair.wire.write(frame)
    assert pair.wire.jammed
    drained = [asyncio.create_task(pair.wire.unjammed()) for _ in range(2)]
    expected = written + b"".join(frames)
    assert await pair.read(len(expected)) == expected
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*drained)
    assert not pair.wire.jammed


async def test_waiting_for_a_client_that_leaves_ends(pair: Pair) -> None:
    pair.fill()
    drained = asyncio.create_task(pair.wire.unjammed())
    await asyncio.sleep(0)
    pair.wire.abort("gone")
    async with asyncio.timeout(DEADLINE):
        await drained


async def test_a_ping_is_an_empty_frame(pair: Pair) -> None:
    pair.wire.ping()
    assert pair.peer.recv(100) == b"\x89\x00"


# From the client


async def test_all_messages_of_one_packet_are_received_in_order(pair: Pair) -> None:
    await pair.send(client_frame("a"), client_frame(b"b"), client_frame(""), client_frame("c"))
    await pair.received("a", b"b", "", "c")
    assert pair.receiver.heard_from == {"s1-1"}


async def test_what_came_with_the_handshake_is_received_first(new_pair: NewPair) -> None:
    frame = client_frame("early")
    pair = new_pair().start(frame + frame[:3])
    await pair.send(frame[3:], client_frame("later"))
    await pair.received("early", "early", "later")


async def test_a_large_message_comes_in_pieces(pair: Pair) -> None:
    large = "ü" * 32 * 1024
    await pair.send(client_frame(large), client_frame("next"))
    await pair.received(large, "next")


async def test_a_ping_is_answered_with_its_data(pair: Pair) -> None:
    await pair.send(client_frame(b"data", opcode=9), client_frame("a"))
    assert await pair.read(6) == pong_frame(b"data") == b"\x8a\x04data"
    await pair.received("a")


async def test_a_pong_is_a_sign_of_life_and_nothing_else(pair: Pair) -> None:
    await pair.send(client_frame(b"", opcode=10))
    await eventually_async(lambda: pair.receiver.heard_from, what="the pong")
    assert pair.receiver.messages == []


async def test_while_the_receiver_is_busy_nothing_more_is_read(pair: Pair) -> None:
    free = asyncio.get_running_loop().create_future()
    pair.receiver.answers["wait"] = free
    await pair.send(client_frame("wait"), client_frame("a"))
    await pair.received("wait")
    # Far more than the buffers of the kernel hold: it is the client that waits.
    more = [client_frame("x" * 60_000)] * 20
    sending = asyncio.create_task(pair.send(*more))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pair.receiver.messages == ["wait"]
    assert not sending.done()
    free.set_result(None)
    await sending
    await pair.received("wait", "a", *["x" * 60_000] * 20)


async def test_what_comes_while_the_receiver_is_busy_does_not_occupy_the_loop(pair: Pair) -> None:
    free = asyncio.get_running_loop().create_future()
    pair.receiver.answers["wait"] = free
    await pair.send(client_frame("wait"))
    await pair.received("wait")
    await pair.send(client_frame("a"))
    # Else the loop would be told of the same bytes in each of its turns.
    await eventually_async(lambda: not pair.wire._watched, what="the loop to look away")
    assert not asyncio.get_running_loop().remove_reader(pair.socket.fileno())
    free.set_result(None)
    await pair.received("wait", "a")
    await pair.send(client_frame("b"))
    await pair.received("wait", "a", "b")


async def test_a_coroutine_of_the_receiver_is_run_before_the_next_message(pair: Pair) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        pair.receiver.messages.append("worked")

    pair.receiver.answers["a"] = work()
    await pair.send(client_frame("a"), client_frame("b"))
    await pair.received("a", "worked", "b")


async def test_a_client_that_leaves_while_the_receiver_is_busy_is_seen_to_go(pair: Pair) -> None:
    free = asyncio.get_running_loop().create_future()
    pair.receiver.answers["wait"] = free
    await pair.send(client_frame("wait"))
    await pair.received("wait")
    pair.peer.close()
    free.set_result(None)
    assert await pair.ended() is None


async def test_one_that_was_dropped_while_the_receiver_was_busy_is_not_read(pair: Pair) -> None:
    free = asyncio.get_running_loop().create_future()
    pair.receiver.answers["wait"] = free
    await pair.send(client_frame("wait"), client_frame("a"))
    await pair.received("wait")
    pair.wire.abort("enough")
    free.set_result(None)
    assert await pair.ended() is None
    assert pair.receiver.messages == ["wait"]


async def test_a_client_that_sends_too_fast_is_read_later_and_in_order(new_pair: NewPair) -> None:
    rate = 50
    pair = new_pair(max_message_rate=rate).start()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    texts = [str(number) for number in range(3 * rate)]
    await pair.send(*map(client_frame, texts))
    await pair.received(*texts)
    # Two seconds' worth may come at once.
    assert loop.time() - begun > 0.9 * (rate - 1) / rate


@pytest.mark.parametrize(
    "frame",
    [
        client_frame(b"", opcode=9),
        client_frame(b"", opcode=10),
        client_frame(b"", opcode=0, final=False),
    ],
)
async def test_a_flood_of_frames_that_are_no_messages_is_slowed_down(
    new_pair: NewPair, frame: bytes
) -> None:
    pair = new_pair(max_message_rate=1).start()
    begin = client_frame(b"", opcode=1, final=False)
    await pair.send(begin, *[frame] * 100)
    await eventually_async(lambda: pair.receiver.heard_from, what="the flood")
    # Two messages' worth at once, and as much in each second to come.
    assert pair.wire._paused
    assert len(pair.wire._parser._data) - pair.wire._parser._at > 60 * len(frame)


async def test_a_defect_of_ours_ends_one_connection_with_1011(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.receiver.answers["bad"] = RuntimeError("a defect")
    await pair.send(client_frame("bad"), client_frame("not read"), client_close(1011))
    assert await pair.rest() == close_frame(1011, "internal error")
    assert await pair.ended() == 1011
    assert pair.receiver.messages == ["bad"]
    assert "s1-1: failed" in caplog.text
    assert "a defect" in caplog.text


async def test_a_defect_in_what_is_waited_for_does_too(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        raise RuntimeError("a defect")

    pair.receiver.answers["bad"] = work()
    await pair.send(client_frame("bad"), client_frame("not read"))
    assert await pair.rest() == close_frame(1011, "internal error")
    pair.peer.close()
    await eventually_async(pair.closed, what="the socket to be closed")
    assert pair.receiver.messages == ["bad"]
    assert "a defect" in caplog.text


async def test_what_is_waited_for_may_be_cancelled(pair: Pair) -> None:
    free = asyncio.get_running_loop().create_future()
    pair.receiver.answers["wait"] = free
    await pair.send(client_frame("wait"), client_frame("a"))
    await pair.received("wait")
    free.cancel()
    await pair.received("wait", "a")


# The end


async def test_a_close_is_answered_with_its_code(pair: Pair) -> None:
    await pair.send(client_frame("a"), client_close(4000, "bye"), client_frame("not read"))
    assert await pair.rest() == b"\x88\x02\x0f\xa0"
    assert await pair.ended() == 4000
    pair.peer.close()
    await eventually_async(pair.closed, what="the socket to be closed")
    assert pair.receiver.messages == ["a"]


async def test_a_close_without_a_code_is_answered_with_none(pair: Pair) -> None:
    await pair.send(client_close(None))
    assert await pair.rest() == b"\x88\x00"
    assert await pair.ended() is None


async def test_after_our_close_frame_nothing_is_sent_or_received(pair: Pair) -> None:
    pair.wire.close(4001, "moved")
    pair.wire.close(4002, "again")
    pair.wire.write(b"late")
    pair.wire.ping()
    await pair.send(client_frame("late"), client_frame(b"", opcode=9), client_close(4001))
    assert await pair.rest() == close_frame(4001, "moved")
    assert await pair.ended() == 4001
    assert pair.receiver.messages == []


async def test_a_close_frame_follows_what_waits(pair: Pair) -> None:
    written = pair.fill()
    pair.wire.close(1001, "")
    assert await pair.read(len(written) + 4) == written + close_frame(1001)
    await pair.send(client_close(1001))
    assert await pair.ended() == 1001


async def test_what_waits_is_sent_before_the_end_that_the_client_began(pair: Pair) -> None:
    written = pair.fill()
    await pair.send(client_close(1000))
    assert await pair.ended() == 1000
    assert not pair.closed()
    assert await pair.rest() == written + close_frame(1000)


async def test_a_client_that_does_not_close_is_dropped_after_a_while(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "CLOSING_TIME", 0.01)
    pair.wire.close(1000, "")
    assert await pair.ended() is None
    assert pair.closed()


async def test_a_client_that_does_not_hang_up_is_dropped_after_a_while(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "CLOSING_TIME", 0.01)
    await pair.send(client_close(1000))
    assert await pair.ended() == 1000
    await eventually_async(pair.closed, what="the socket to be closed")


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"\x81\x01a", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (client_frame(b"\xff", opcode=1), 1007),
        (client_frame("x" * 65_537), 1009),
        (client_frame(b"\x03\xed", opcode=8), 1002),
    ],
)
async def test_a_violation_is_told_to_a_client_that_goes_on_sending(
    pair: Pair, bad: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await pair.send(client_frame("a"), bad)
        await pair.send(*[client_frame("not read")] * 1000)
        answer = await pair.rest()
    assert struct.unpack("!BxH", answer[:4]) == (0x88, code)
    assert answer[1] == len(answer) - 2
    assert await pair.ended() == code
    assert pair.receiver.messages == ["a"]
    assert f"s1-1: closed with {code}" in caplog.text
    # It is still heard out: a reset would take the close frame with it.
    await pair.send(b"more")
    pair.peer.close()
    await eventually_async(pair.closed, what="the socket to be closed")


async def test_a_violation_in_answer_to_our_close_ends_it(pair: Pair) -> None:
    pair.wire.close(1001, "")
    await pair.send(b"\xff\xff")
    assert await pair.rest() == close_frame(1001)
    assert await pair.ended() == 1002


async def test_the_end_of_what_the_client_sends_is_the_end(pair: Pair) -> None:
    await pair.send(client_frame("a"), client_frame("b")[:3])
    pair.peer.shutdown(socket.SHUT_WR)
    assert await pair.ended() is None
    assert pair.receiver.messages == ["a"]
    assert pair.closed()


async def test_a_connection_that_is_reset_is_over(new_pair: NewPair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    receiver = Recorder()
    wire = Wire(ours, LIMITS, owner="s1-1", first=FIRST)
    wire.belong_to(receiver, "s1-1")
    wire.start()
    # Closed without a linger: a reset.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    await eventually_async(lambda: receiver.ends, what="the end")
    assert receiver.ends == [None]
    assert ours.fileno() == -1


async def test_at_the_end_nobody_is_kept(new_pair: NewPair) -> None:
    pair = new_pair().start()
    owner = Owner()
    pair.wire.belong_to(pair.receiver, owner)
    gone = weakref.ref(owner)
    del owner
    pair.peer.close()
    await pair.ended()
    assert gone() is None


async def test_a_wire_without_a_receiver_ends_alone(new_pair: NewPair) -> None:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    wire = Wire(ours, LIMITS, owner="s1-1", first=FIRST)
    wire.start(client_frame("nobody hears this"))
    peer.close()
    await eventually_async(lambda: ours.fileno() == -1, what="the end")


async def test_a_time_limit_replaces_the_one_before(pair: Pair) -> None:
    called: list[str] = []
    pair.wire.limit(0, called.append, "first")
    pair.wire.limit(0.001, called.append, "second")
    await eventually_async(lambda: called, what="the limit")
    pair.wire.limit(0, called.append, "third")
    pair.wire.limit(None, called.append)
    await asyncio.sleep(0.01)
    assert called == ["second"]


async def test_the_limit_of_the_end_cannot_be_replaced(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "CLOSING_TIME", 0.01)
    pair.wire.close(1000, "")
    pair.wire.limit(1000, pair.wire.abort, "not called")
    assert await pair.ended() is None
    pair.wire.limit(1000, pair.wire.abort, "not called")
    assert pair.wire._time_limit is None

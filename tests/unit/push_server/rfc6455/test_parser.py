"""What a client's bytes mean, byte by byte (RFC 6455, section 5).

The cases follow those of the Autobahn test suite: framing, pings and pongs, reserved bits, opcodes,
fragments, UTF-8, closing, limits.
"""

import random

import pytest
from tornado import util

from push_server.rfc6455.parser import (
    CloseFrame,
    Event,
    Fragment,
    Parser,
    PingFrame,
    PongFrame,
    Violation,
)
from tests.unit.push_server.frames import client_close, client_frame

MAX = 70_000

PROTOCOL, DATA, SIZE = 1002, 1007, 1009


def parse(*chunks: bytes, max_bytes: int = MAX) -> list[Event]:
    """The events up to the first violation."""
    parser = Parser(max_bytes)
    events: list[Event] = []
    for chunk in chunks:
        parser.feed(chunk)
        while (event := parser.next_event()) is not None:
            events.append(event)
            if isinstance(event, Violation):
                return events
    return events


def code(*chunks: bytes, max_bytes: int = MAX) -> int:
    """The code of the violation with which the events end."""
    last = parse(*chunks, max_bytes=max_bytes)[-1]
    assert isinstance(last, Violation)
    return last.code


# Framing


def test_a_text_by_the_example_of_the_rfc() -> None:
    # 5.7: a single-frame masked text message.
    assert parse(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == ["Hello"]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 127, 128, 65_535, 65_536, 65_537])
def test_messages_of_all_sizes(size: int) -> None:
    text = "*" * size
    assert parse(client_frame(text)) == [text]
    data = bytes(range(256)) * (size // 256 + 1)
    assert parse(client_frame(data[:size])) == [data[:size]]


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x80\x7f\xfe"])
def test_any_mask_will_do(mask: bytes) -> None:
    assert parse(client_frame("grüße", mask=mask)) == ["grüße"]


def test_the_masking_of_tornado_is_there() -> None:
    # A private name: it may go with any release.
    assert util._websocket_mask(b"\x37\xfa\x21\x3d", b"\x7f\x9f\x4d\x51\x58") == b"Hello"


def test_a_frame_without_a_mask_is_a_violation() -> None:
    assert parse(b"\x81\x05Hello") == [Violation(PROTOCOL, "frames of clients are masked")]
    assert code(b"\x88\x00") == PROTOCOL


def test_nothing_is_nothing() -> None:
    assert parse(b"") == []
    assert parse(b"\x81") == []


def test_a_length_that_is_longer_than_need_be_is_taken() -> None:
    assert parse(b"\x81\xfe\x00\x01\0\0\0\0a") == ["a"]
    assert parse(b"\x81\xff\0\0\0\0\0\0\0\x01\0\0\0\0a") == ["a"]


def test_a_length_of_64_bits_is_a_violation() -> None:
    assert code(b"\x81\xff\x80\0\0\0\0\0\0\x01\0\0\0\0a") == PROTOCOL


# Pings and pongs


@pytest.mark.parametrize("data", [b"", b"hello", bytes(range(125))])
def test_pings_and_pongs(data: bytes) -> None:
    assert parse(client_frame(data, opcode=9)) == [PingFrame(data)]
    assert parse(client_frame(data, opcode=10)) == [PongFrame()]


@pytest.mark.parametrize("opcode", [8, 9, 10])
def test_a_control_frame_is_small(opcode: int) -> None:
    assert code(client_frame(b"\x03\xe8" + bytes(124), opcode=opcode)) == PROTOCOL
    # Even before it is there as a whole.
    assert code(bytes([0x80 | opcode, 0x80 | 126])) == PROTOCOL
    assert code(bytes([0x80 | opcode, 0x80 | 127])) == PROTOCOL


@pytest.mark.parametrize("opcode", [8, 9, 10])
def test_a_control_frame_is_in_one_piece(opcode: int) -> None:
    assert parse(client_frame(b"", opcode=opcode, final=False)) == [
        Violation(PROTOCOL, "a control frame is not fragmented")
    ]


# Reserved bits and opcodes


@pytest.mark.parametrize("bits", range(0x10, 0x80, 0x10))
@pytest.mark.parametrize("opcode", [0, 1, 2, 8, 9, 10])
@pytest.mark.parametrize("final", [True, False])
def test_reserved_bits_are_a_violation(bits: int, opcode: int, final: bool) -> None:
    events = parse(client_frame("a"), client_frame(b"", opcode=opcode | bits, final=final))
    assert events == ["a", Violation(PROTOCOL, "reserved bits are set")]


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("data", [b"", b"data"])
def test_reserved_opcodes_are_a_violation(opcode: int, final: bool, data: bytes) -> None:
    events = parse(client_frame("a"), client_frame(data, opcode=opcode, final=final))
    assert events == ["a", Violation(PROTOCOL, "a reserved opcode")]


# Fragments


def begin(data: str | bytes) -> bytes:
    return client_frame(data, final=False)


def go_on(data: str | bytes, *, final: bool = False) -> bytes:
    return client_frame(data, opcode=0, final=final)


def test_fragments_are_one_message() -> None:
    assert parse(begin("frag"), go_on("men"), go_on("ts", final=True), client_frame("next")) == [
        Fragment(),
        Fragment(),
        "fragments",
        "next",
    ]
    assert parse(begin(b"\xff"), go_on(b"\xfe", final=True)) == [Fragment(), b"\xff\xfe"]


def test_fragments_may_be_empty() -> None:
    assert parse(begin(""), go_on(""), go_on("", final=True)) == [Fragment(), Fragment(), ""]


def test_control_frames_may_stand_between_fragments() -> None:
    ping, pong = client_frame(b"p", opcode=9), client_frame(b"", opcode=10)
    assert parse(begin("a"), ping, go_on("b"), pong, go_on("c", final=True)) == [
        Fragment(),
        PingFrame(b"p"),
        Fragment(),
        PongFrame(),
        "abc",
    ]
    assert parse(begin("a"), client_close(1000))[-1] == CloseFrame(1000)


@pytest.mark.parametrize("final", [True, False])
def test_a_continuation_of_nothing_is_a_violation(final: bool) -> None:
    wrong = Violation(PROTOCOL, "nothing to continue")
    assert parse(go_on("a", final=final)) == [wrong]
    assert parse(begin("a"), go_on("b", final=True), go_on("c", final=final))[-1] == wrong


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("data", ["text", b"binary"])
def test_a_message_within_another_is_a_violation(final: bool, data: str | bytes) -> None:
    events = parse(begin("a"), client_frame(data, final=final))
    assert events == [Fragment(), Violation(PROTOCOL, "a message within another")]


# UTF-8

VALID = [
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\x00",
    "\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffd\uffff",
    "\U00010000\U0010ffff",
    "\ufeff",
]
INVALID = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"\xf4\x90\x80\x80",
    b"\x80",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf8\x88\x80\x80\x80",
    b"\xff",
    b"\xe2\x82",
]


@pytest.mark.parametrize("text", VALID)
def test_texts_are_utf_8(text: str) -> None:
    data = text.encode()
    assert parse(client_frame(text)) == [text]
    for cut in range(len(data) + 1):
        begun = client_frame(data[:cut], opcode=1, final=False)
        assert parse(begun, go_on(data[cut:], final=True))[-1] == text


@pytest.mark.parametrize("data", INVALID)
def test_other_texts_are_a_violation(data: bytes) -> None:
    wrong = Violation(DATA, "text that is not UTF-8")
    assert parse(client_frame(data, opcode=1)) == [wrong]
    for cut in range(len(data) + 1):
        begun = client_frame(data[:cut], opcode=1, final=False)
        assert parse(begun, go_on(data[cut:], final=True))[-1] == wrong
    # Bytes may be anything.
    assert parse(client_frame(data)) == [data]


def test_an_invalid_text_is_told_before_it_is_complete() -> None:
    begun = client_frame(b"\xce\xba\xf4\x90", opcode=1, final=False)
    assert parse(begun) == [Violation(DATA, "text that is not UTF-8")]


# Closing


def test_close_frames() -> None:
    assert parse(client_close(None)) == [CloseFrame(None)]
    assert parse(client_close(1000)) == [CloseFrame(1000)]
    assert parse(client_close(4999, "x" * 123)) == [CloseFrame(4999)]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x03", PROTOCOL),
        (b"\x00\x00", PROTOCOL),
        (b"\x03\xed", PROTOCOL),
        (b"\x07\xd0", PROTOCOL),
        (b"\xff\xff", PROTOCOL),
        (b"\x03\xe8\xff", DATA),
        (b"\x03\xe8\xed\xa0\x80", DATA),
    ],
)
def test_malformed_close_frames(payload: bytes, expected: int) -> None:
    assert code(client_frame(payload, opcode=8)) == expected


# Limits


def test_a_message_beyond_the_limit_is_told_by_its_first_bytes() -> None:
    assert parse(client_frame("x" * 100), max_bytes=100) == ["x" * 100]
    assert parse(client_frame("x" * 101)[:2], max_bytes=100) == [
        Violation(SIZE, "a message has 100 bytes at most")
    ]
    assert code(client_frame(b"x" * 1000)[:4], max_bytes=100) == SIZE
    assert code(b"\x82\xff\x7f" + b"\xff" * 7, max_bytes=100) == SIZE


def test_the_limit_is_for_all_fragments_together() -> None:
    half = "x" * 50
    assert parse(begin(half), go_on(half, final=True), max_bytes=100)[-1] == half + half
    assert code(begin(half), go_on(half), go_on("x", final=True), max_bytes=100) == SIZE


def test_control_frames_are_not_counted() -> None:
    ping = client_frame(bytes(125), opcode=9)
    assert parse(begin("a"), ping, go_on("b", final=True), max_bytes=2)[-1] == "ab"


# In pieces

SESSION = b"".join(
    [
        client_frame("a"),
        begin("grü".encode()[:4].decode(errors="ignore")),
        client_frame(b"ping", opcode=9),
        go_on("ße"),
        go_on("", final=True),
        client_frame(bytes(range(200))),
        client_frame(""),
        client_frame("x" * 130),
        client_frame(b"", opcode=10),
        client_close(1000, "bye"),
    ]
)
ENDINGS = [b"", b"\x81\x01a", client_frame(b"\xff", opcode=1), client_frame(bytes(300), opcode=9)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_where_the_bytes_are_cut_makes_no_difference(ending: bytes) -> None:
    stream = SESSION + ending
    expected = parse(stream)
    for cut in range(len(stream) + 1):
        assert parse(stream[:cut], stream[cut:]) == expected
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == expected


@pytest.mark.parametrize("seed", range(20))
def test_nor_do_many_cuts(seed: int) -> None:
    chance = random.Random(seed)
    stream = SESSION * 3 + chance.choice(ENDINGS)
    cuts = sorted(chance.sample(range(len(stream)), chance.randrange(1, 60)))
    chunks = [stream[i:j] for i, j in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parse(*chunks) == parse(stream)


def test_what_is_parsed_is_not_kept() -> None:
    parser = Parser(MAX)
    frame = client_frame("x" * 1000)
    parser.feed(frame + frame[:10])
    assert parser.next_event() == "x" * 1000
    assert parser.next_event() is None
    assert parser._data == frame[:10]
    parser.feed(frame[10:])
    assert parser.next_event() == "x" * 1000
    assert parser.next_event() is None
    assert parser._data == b""
    assert isinstance(parser._data, bytes)


def test_events_are_parsed_when_they_are_asked_for() -> None:
    parser = Parser(MAX)
    parser.feed(client_frame("a") + client_frame("b") + b"\xff\xff")
    assert parser.next_event() == "a"
    parser.feed(b"more")
    assert parser.next_event() == "b"
    assert isinstance(parser.next_event(), Violation)

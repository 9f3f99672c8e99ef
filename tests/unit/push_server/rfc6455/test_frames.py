"""WebSocket frames, byte by byte (RFC 6455, 5.2)."""

from collections.abc import Callable
from functools import partial

import pytest

from push_server.rfc6455.frames import (
    BINARY,
    PING_FRAME,
    close_frame_of,
    frame,
    pong_frame,
    text_frame,
)


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (0, b"\x00"),
        (1, b"\x01"),
        (125, b"\x7d"),
        (126, b"\x7e\x00\x7e"),
        (65_535, b"\x7e\xff\xff"),
        (65_536, b"\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
@pytest.mark.parametrize(
    ("make", "first"), [(text_frame, b"\x81"), (partial(frame, BINARY), b"\x82")]
)
def test_a_frame_is_final_and_unmasked(
    make: Callable[[bytes], bytes], first: bytes, size: int, length: bytes
) -> None:
    data = b"x" * size
    assert make(data) == first + length + data


def test_control_frames() -> None:
    assert PING_FRAME == b"\x89\x00"
    assert pong_frame(b"hi") == b"\x8a\x02hi"
    assert close_frame_of(b"\x03\xe8") == b"\x88\x02\x03\xe8"

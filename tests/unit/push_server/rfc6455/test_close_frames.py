"""Which close frames are malformed, and what they are answered with (RFC 6455, 7.4)."""

import struct

import pytest

from push_server.rfc6455.close_frames import close_error, close_frame

ALLOWED = [*range(1000, 1004), *range(1007, 1015), 3000, 4999]
FORBIDDEN = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


def test_an_empty_close_frame_is_in_order() -> None:
    assert close_error(b"") is None


@pytest.mark.parametrize("code", ALLOWED)
def test_codes_that_may_be_sent_are_in_order(code: int) -> None:
    assert close_error(payload(code)) is None
    assert close_error(payload(code, "grüße".encode())) is None


@pytest.mark.parametrize("code", FORBIDDEN)
def test_codes_that_may_not_be_sent_are_a_protocol_error(code: int) -> None:
    assert close_error(payload(code)) == 1002


def test_half_a_code_is_a_protocol_error() -> None:
    assert close_error(b"\x03") == 1002


@pytest.mark.parametrize("reason", [b"\xff", "ü".encode()[:1], b"\xed\xa0\x80"])
def test_a_reason_that_is_no_text_is_invalid_data(reason: bytes) -> None:
    assert close_error(payload(1000, reason)) == 1007


def test_a_close_frame_has_a_code_and_a_reason() -> None:
    assert close_frame(1000) == b"\x88\x02\x03\xe8"
    assert close_frame(4001, "moved") == b"\x88\x07\x0f\xa1moved"
    assert close_frame(None) == b"\x88\x00"


@pytest.mark.parametrize("character", ["x", "ü", "€", "\U0001f600"])
def test_a_reason_that_is_too_long_is_cut_between_characters(character: str) -> None:
    frame = close_frame(1000, character * 200)
    assert frame[1] <= 125
    assert frame[1] > 125 - 4
    reason = frame[4:].decode()
    assert reason == character * len(reason)
    assert close_error(frame[2:]) is None

"""Which close frames are malformed, and what they are answered with (RFC 6455, 7.4)."""

import struct

import pytest

from push_server.close_frames import INVALID_DATA, PROTOCOL_ERROR, close_error


def payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


def test_an_empty_close_frame_is_in_order() -> None:
    assert close_error(b"") is None


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
def test_codes_that_may_be_sent_are_in_order(code: int) -> None:
    assert close_error(payload(code)) is None
    assert close_error(payload(code, "grüße".encode())) is None


@pytest.mark.parametrize(
    "code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
)
def test_codes_that_may_not_be_sent_are_a_protocol_error(code: int) -> None:
    assert close_error(payload(code)) == PROTOCOL_ERROR


def test_half_a_code_is_a_protocol_error() -> None:
    assert close_error(b"\x03") == PROTOCOL_ERROR


@pytest.mark.parametrize("reason", [b"\xff", "ü".encode()[:1], b"\xed\xa0\x80"])
def test_a_reason_that_is_no_text_is_invalid_data(reason: bytes) -> None:
    assert close_error(payload(1000, reason)) == INVALID_DATA

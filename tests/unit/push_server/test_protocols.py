"""Frames of the plain protocol, byte by byte (RFC 6455, 5.2)."""

import pytest

from push_server.protocols import error_frame, inbound, message_frame, outcome_frame
from queue_run.envelopes import Outcome
from queue_run.ids import ConnectionId, RequestId
from queue_run.messages import Form, Message

REQUEST = RequestId("s1-1-1")


def outcome(reply: Message | None = None, error: str | None = None) -> Outcome:
    return Outcome(connection=ConnectionId("s1-1"), request=REQUEST, reply=reply, error=error)


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
    ("form", "first"), [(Form.TEXT, b"\x81"), (Form.JSON, b"\x81"), (Form.BINARY, b"\x82")]
)
def test_a_message_is_one_final_unmasked_frame(
    form: Form, first: bytes, size: int, length: bytes
) -> None:
    data = b"x" * size
    assert message_frame(Message(form, data)) == first + length + data


def test_an_error_is_a_text_frame_with_json() -> None:
    assert error_frame("no") == b'\x81\x0e{"error":"no"}'


def test_an_outcome_is_its_reply() -> None:
    assert outcome_frame(outcome(Message(Form.TEXT, b"hi"))) == b"\x81\x02hi"
    assert outcome_frame(outcome(Message(Form.BINARY, b""))) == b"\x82\x00"


def test_an_outcome_is_its_error() -> None:
    assert outcome_frame(outcome(error="no")) == error_frame("no")


def test_an_empty_error_is_an_error() -> None:
    assert outcome_frame(outcome(error="")) == error_frame("")


def test_an_outcome_without_a_reply_is_no_frame() -> None:
    assert outcome_frame(outcome()) is None


@pytest.mark.parametrize("data", ["", "hi", b"", b"\x00\xff"])
def test_a_frame_becomes_a_request_of_its_kind(data: str | bytes) -> None:
    request = inbound(REQUEST, data)
    assert request.id == REQUEST
    assert request.data == data
    assert (request.text is None) == isinstance(data, bytes)

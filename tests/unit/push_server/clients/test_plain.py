"""Frames of the plain protocol."""

import pytest

from push_server.clients.plain import PLAIN, inbound, message_frame
from queue_run.contracts.envelopes import Outcome
from queue_run.contracts.ids import ConnectionId, RequestId
from queue_run.contracts.messages import Form, Message

REQUEST = RequestId("s1-1-1")


def outcome(reply: Message | None = None, error: str | None = None) -> Outcome:
    return Outcome(connection=ConnectionId("s1-1"), request=REQUEST, reply=reply, error=error)


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (Message(Form.TEXT, b"hi"), b"\x81\x02hi"),
        (Message(Form.JSON, b"[1]"), b"\x81\x03[1]"),
        (Message(Form.BINARY, b"\x00\xff"), b"\x82\x02\x00\xff"),
        (Message(Form.BINARY, b""), b"\x82\x00"),
    ],
)
def test_a_message_is_what_the_client_gets(message: Message, frame: bytes) -> None:
    assert message_frame(message) == frame
    assert PLAIN.message(message) == frame
    assert PLAIN.outcome(outcome(message)) == frame


def test_an_error_is_a_text_frame_with_json() -> None:
    assert PLAIN.error(REQUEST, "no") == b'\x81\x0e{"error":"no"}'


@pytest.mark.parametrize("text", ["no", ""])
def test_an_outcome_is_its_error(text: str) -> None:
    assert PLAIN.outcome(outcome(error=text)) == PLAIN.error(REQUEST, text)


def test_an_outcome_without_a_reply_is_no_frame() -> None:
    assert PLAIN.outcome(outcome()) is None


@pytest.mark.parametrize("data", ["", "hi", b"", b"\x00\xff"])
def test_a_frame_becomes_a_request_of_its_kind(data: str | bytes) -> None:
    request = inbound(REQUEST, data)
    assert request.id == REQUEST
    assert request.data == data
    assert (request.text is None) == isinstance(data, bytes)
    assert not request.json

"""The envelope protocol: literal JSON in and out, for every frame of docs/protocol.md."""

import re
from pathlib import Path

import pytest

from push_server.clients.envelope import (
    PONG_FRAME,
    Asked,
    Event,
    Misunderstood,
    Phase,
    Pinged,
    Ponged,
    Resume,
    Session,
    Start,
    inbound,
    message_frame,
    misunderstood_frame,
    ping_frame,
    reconnect_frame,
)
from queue_run.contracts.envelopes import Outcome
from queue_run.contracts.ids import ConnectionId, RequestId
from queue_run.contracts.messages import Form, Message
from tests.processes import ROOT
from tests.unit.push_server.building import payload

CONNECTION = ConnectionId("s1-1")
REQUEST = RequestId("s1-1-1")


@pytest.fixture
def envelope() -> Session:
    return Session("the-session", (1700000000000, 7))


def text(frame: bytes | None) -> str:
    """The JSON of a frame, which is a text frame."""
    assert frame is not None
    assert frame[0] == 0x81
    return payload(frame).decode()


def outcome(reply: Message | None = None, error: str | None = None) -> Outcome:
    return Outcome(connection=CONNECTION, request=REQUEST, reply=reply, error=error)


# From the client


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        ('{"id":7,"data":{"a":[1, 2]}}', Asked(7, '{"a":[1, 2]}')),
        ('{"id":7,"data":null}', Asked(7, "null")),
        ('{"data":"ü","id":"seven"}', Asked("seven", '"ü"')),
        ('{"id":0,"data":""}', Asked(0, '""')),
        ('{"id":-1,"data":1.50}', Asked(-1, "1.50")),
        ('{"id":18446744073709551616,"data":1}', Asked(2**64, "1")),
        ('{"id":7,"bytes":"AP8="}', Asked(7, b"\x00\xff")),
        ('{"id":7,"bytes":""}', Asked(7, b"")),
        ('{"id":"' + "x" * 64 + '","data":1}', Asked("x" * 64, "1")),
        ('{"type":"start"}', Start()),
        ('{"type":"ping"}', Pinged()),
        ('{"type":"pong"}', Ponged()),
        (
            '{"type":"resume","session":"s","offset":"1-2","epoch":"e"}',
            Resume("s", "1-2", "e"),
        ),
        ('{"type":"resume","offset":"1-2","epoch":"e"}', Resume(None, "1-2", "e")),
        # Opaque to the client: whether it is an offset is found when it is used.
        ('{"type":"resume","offset":"","epoch":""}', Resume(None, "", "")),
    ],
)
def test_a_frame_of_the_client_is_understood(envelope: Session, frame: str, event: Event) -> None:
    assert envelope.received(frame) == event


NO_ID = "a request has an id"
EITHER = "a request has either data or bytes"
LENGTH = "an id has 1 to 64 characters"
PLACE = "a resume has an offset and an epoch"


@pytest.mark.parametrize(
    ("frame", "name", "error"),
    [
        ("{}", None, NO_ID),
        ('{"data":1}', None, NO_ID),
        ('{"id":7}', 7, EITHER),
        ('{"id":"a","data":1,"bytes":""}', "a", EITHER),
        ('{"id":"","data":1}', None, LENGTH),
        ('{"id":"' + "x" * 65 + '","data":1}', None, LENGTH),
        ('{"type":"resume"}', None, PLACE),
        ('{"type":"resume","session":"s","offset":"1-2"}', None, PLACE),
        ('{"type":"resume","session":"s","epoch":"e"}', None, PLACE),
    ],
)
def test_a_frame_that_lacks_something_says_what(
    envelope: Session, frame: str, name: int | str | None, error: str
) -> None:
    assert envelope.received(frame) == Misunderstood(name, error)


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        ("", "truncated"),
        ("hi", "malformed"),
        ("{", "truncated"),
        ('{"id":7,"data":1}}', "malformed"),
        ('{"id":7,"data":NaN}', "malformed"),
        ('{"id":7,"data":"\ud800"}', "surrogates"),
        *(
            (frame, "half a character (a lone surrogate) can stand in data only")
            for frame in (
                '{"id":"\\ud800","data":1}',
                '{"id":7,"data":1,"\\ud800":1}',
                '{"type":"\\ud83d"}',
                '{"type":"resume","session":"\\ud83d","offset":"1-2","epoch":"e"}',
                '{"type":"resume","session":"s","offset":"1-2","epoch":"\\ud83d"}',
            )
        ),
        ("7", "Expected `object`, got `int`"),
        ("[]", "Expected `object`, got `array`"),
        ("null", "Expected `object`, got `null`"),
        ('{"id":null,"data":1}', "got `null` - at `$.id`"),
        ('{"id":true,"data":1}', "got `bool` - at `$.id`"),
        ('{"id":1.5,"data":1}', "got `float` - at `$.id`"),
        ('{"id":[1],"data":1}', "got `array` - at `$.id`"),
        ('{"bytes":"%"}', "base64"),
        ('{"bytes":[1]}', "at `$.bytes`"),
        ('{"type":"message"}', "'message'"),
        ('{"type":"welcome"}', "'welcome'"),
        ('{"type":7}', "at `$.type`"),
        ('{"type":"resume","session":7,"offset":"1-2","epoch":"e"}', "at `$.session`"),
        ('{"type":"resume","session":"s","offset":7,"epoch":"e"}', "at `$.offset`"),
        ('{"type":"resume","session":"s","offset":"1-2","epoch":null}', "at `$.epoch`"),
        ('{"id":1,"data":' + "[" * 100_000, "the JSON is nested too deeply"),
    ],
)
def test_a_frame_that_is_none_is_misunderstood(envelope: Session, frame: str, error: str) -> None:
    event = envelope.received(frame)
    assert isinstance(event, Misunderstood)
    assert event.id is None
    assert error in event.error


UNKNOWN = "Object contains unknown field `path`"


@pytest.mark.parametrize(
    ("frame", "name", "error"),
    [
        ('{"id":7,"path":"/admin","data":1}', 7, UNKNOWN),
        ('{"path":"/admin","id":"seven","bytes":""}', "seven", UNKNOWN),
        ('{"path":"/admin","data":1}', None, UNKNOWN),
        ('{"id":"' + "x" * 65 + '","path":"/admin"}', None, UNKNOWN),
        ('{"type":"start","path":"/admin"}', None, UNKNOWN),
        ('{"type":"ping","path":null}', None, UNKNOWN),
        ('{"id":7,"data":1,"offset":"1-2"}', 7, "a request has no field `offset`"),
        ('{"id":7,"data":1,"session":"s"}', 7, "a request has no field `session`"),
        ('{"id":7,"data":1,"epoch":"e"}', 7, "a request has no field `epoch`"),
        ('{"type":"ping","id":7}', 7, "a ping has no field `id`"),
        ('{"type":"pong","data":1}', None, "a pong has no field `data`"),
        ('{"type":"start","bytes":""}', None, "a start has no field `bytes`"),
        ('{"type":"start","offset":"1-2"}', None, "a start has no field `offset`"),
        (
            '{"type":"resume","id":7,"offset":"1-2","epoch":"e"}',
            7,
            "a resume has no field `id`",
        ),
    ],
)
def test_a_frame_with_fields_of_another_kind_is_refused(
    envelope: Session, frame: str, name: int | str | None, error: str
) -> None:
    assert envelope.received(frame) == Misunderstood(name, error)


def test_what_is_wrong_with_a_frame_is_said_in_few_words(envelope: Session) -> None:
    event = envelope.received('{"id":7,"' + "x" * 60_000 + '":1}')
    assert isinstance(event, Misunderstood)
    assert event.id == 7
    assert len(event.error) < 250


def test_a_binary_frame_is_misunderstood(envelope: Session) -> None:
    assert envelope.received(b'{"type":"ping"}') == Misunderstood(
        None, "frames of this protocol are text: send bytes as base64"
    )


def test_an_integer_with_thousands_of_digits_is_no_error_of_ours(envelope: Session) -> None:
    event = envelope.received('{"id":' + "9" * 10_000 + ',"data":1}')
    assert isinstance(event, Misunderstood)
    assert text(misunderstood_frame(event)).startswith('{"type":"error","id":null,"error":"')


def test_a_request_keeps_its_json_as_it_came() -> None:
    request = inbound(REQUEST, Asked(7, '{"n": 1.0}'))
    assert (request.id, request.text, request.binary, request.json) == (
        REQUEST,
        '{"n": 1.0}',
        None,
        True,
    )


def test_a_request_with_bytes_is_binary() -> None:
    request = inbound(REQUEST, Asked(7, b"\x00"))
    assert (request.text, request.binary, request.json) == (None, b"\x00", False)


# To the client


@pytest.mark.parametrize(("user", "shown"), [("ann", '"ann"'), (None, "null"), ('"', '"\\""')])
def test_the_welcome(envelope: Session, user: str | None, shown: str) -> None:
    frame = envelope.welcome(
        connection="s1-1", user=user, epoch="e1", heartbeat=25.0, resume=0.0625
    )
    assert text(frame) == (
        '{"type":"welcome","connection":"s1-1","session":"the-session","user":' + shown + ","
        '"offset":"1700000000000-7","epoch":"e1","heartbeat":25000,"resume":62}'
    )


MESSAGES = [
    (Message(Form.JSON, b'{"a": [1]}'), '"data":{"a": [1]}'),
    (Message(Form.JSON, b"null"), '"data":null'),
    (Message(Form.TEXT, b'say "hi"'), '"data":"say \\"hi\\""'),
    (Message(Form.TEXT, b""), '"data":""'),
    (Message(Form.TEXT, "ü\n".encode()), '"data":"ü\\n"'),
    # A text that looks like JSON is still a text.
    (Message(Form.TEXT, b"[1]"), '"data":"[1]"'),
    (Message(Form.BINARY, b"\x00\xff"), '"bytes":"AP8="'),
    (Message(Form.BINARY, b""), '"bytes":""'),
]


@pytest.mark.parametrize(("message", "shown"), MESSAGES)
def test_a_message(envelope: Session, message: Message, shown: str) -> None:
    assert text(message_frame(message, (12, 3))) == (
        '{"type":"message","offset":"12-3",' + shown + "}"
    )
    assert text(envelope.message(message)) == '{"type":"message",' + shown + "}"


@pytest.mark.parametrize(("message", "shown"), MESSAGES)
def test_a_reply(envelope: Session, message: Message, shown: str) -> None:
    envelope.accept(REQUEST, 7)
    assert text(envelope.outcome(outcome(message))) == '{"type":"reply","id":7,' + shown + "}"


def test_a_reply_without_anything(envelope: Session) -> None:
    envelope.accept(REQUEST, "a")
    assert text(envelope.outcome(outcome())) == '{"type":"reply","id":"a"}'


@pytest.mark.parametrize("error", ["no", ""])
def test_a_request_that_failed(envelope: Session, error: str) -> None:
    envelope.accept(REQUEST, 7)
    shown = '{"type":"error","id":7,"error":"' + error + '"}'
    assert text(envelope.outcome(outcome(error=error))) == shown
    envelope.accept(REQUEST, 7)
    assert text(envelope.error(REQUEST, error)) == shown


@pytest.mark.parametrize(("name", "shown"), [(None, "null"), (7, "7"), ("7", '"7"')])
def test_a_frame_that_was_not_understood(name: int | str | None, shown: str) -> None:
    frame = misunderstood_frame(Misunderstood(name, "what?"))
    assert text(frame) == '{"type":"error","id":' + shown + ',"error":"what?"}'


def test_the_answers_to_a_resume(envelope: Session) -> None:
    assert text(envelope.resumed()) == (
        '{"type":"resumed","session":"the-session","offset":"1700000000000-7"}'
    )
    assert text(envelope.gap("e2")) == (
        '{"type":"gap","session":"the-session","offset":"1700000000000-7","epoch":"e2"}'
    )


def test_pings_and_pongs() -> None:
    assert text(ping_frame((5, 0))) == '{"type":"ping","offset":"5-0"}'
    assert text(ping_frame(None)) == '{"type":"ping"}'
    assert text(PONG_FRAME) == '{"type":"pong"}'


def test_the_request_to_reconnect() -> None:
    assert text(reconnect_frame(1.2)) == '{"type":"reconnect","after":1200}'


def test_every_type_of_frame_in_the_document_is_tested() -> None:
    document = (ROOT / "docs" / "protocol.md").read_text()
    types = set(re.findall(r'"type": "(\w+)"', document))
    tested = set(re.findall(r'"type":"(\w+)"', Path(__file__).read_text()))
    assert types <= tested
    assert len(types) >= 11


# The names of requests


def test_a_request_is_open_until_its_outcome(envelope: Session) -> None:
    envelope.accept(REQUEST, 7)
    assert envelope.open == {7}
    envelope.outcome(outcome())
    assert envelope.open == set()


def test_texts_and_integers_are_different_names(envelope: Session) -> None:
    other = RequestId("s1-1-2")
    envelope.accept(REQUEST, 7)
    envelope.accept(other, "7")
    assert [envelope.claim_name(each) for each in (REQUEST, other)] == ["7", '"7"']
    assert envelope.open == {7, "7"}
    envelope.error(REQUEST, "no")
    assert envelope.open == {"7"}


def test_a_new_connection_is_held(envelope: Session) -> None:
    assert envelope.phase is Phase.HELD
    assert envelope.held_frames == []

"""A value is encoded once, in the form that clients get."""

import enum
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from queue_run.errors import MessageTooLarge, NotEncodable
from queue_run.messages import Form, Message, encode, encode_json, error_message
from queue_run.queues import PushedJob

LIMIT = 1024
FORMS = ("text", "bytes", "json")


class Color(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


class Room(msgspec.Struct):
    name: str
    members: list[str]


class Model:
    """Has the shape of a pydantic model."""

    def __repr__(self) -> str:
        return "Model"

    def model_dump_json(self) -> str:
        return '{"n":1}'


def test_text_becomes_a_text_frame_unchanged() -> None:
    assert encode("grüße", limit=LIMIT) == Message(Form.TEXT, b"gr\xc3\xbc\xc3\x9fe")


def test_text_that_holds_json_is_not_encoded_again() -> None:
    assert encode('{"a": 1}', limit=LIMIT) == Message(Form.TEXT, b'{"a": 1}')


@pytest.mark.parametrize("value", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_become_a_binary_frame(value: object) -> None:
    message = encode(value, limit=LIMIT)
    assert message == Message(Form.BINARY, b"\x00\xff")
    assert message.is_binary


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"a": 1, "b": [True, None, 1.5]}, b'{"a":1,"b":[true,null,1.5]}'),
        ([], b"[]"),
        ({}, b"{}"),
        (0, b"0"),
        (False, b"false"),
        (10**30, b"1000000000000000000000000000000"),
        ({"text": "grüße"}, b'{"text":"gr\xc3\xbc\xc3\x9fe"}'),
        ((1, 2), b"[1,2]"),
        ({3}, b"[3]"),
        ({1: "one"}, b'{"1":"one"}'),
        (Point(1, 2), b'{"x":1,"y":2}'),
        (Room("lobby", ["ann"]), b'{"name":"lobby","members":["ann"]}'),
        (Color.RED, b'"red"'),
        (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), b'"2024-01-02T03:04:05Z"'),
        (date(2024, 1, 2), b'"2024-01-02"'),
        (timedelta(minutes=1), b'"PT60S"'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.50"), b'"1.50"'),
        (Model(), b'{"n":1}'),
        ({"list": [Model(), Point(0, 0)]}, b'{"list":[{"n":1},{"x":0,"y":0}]}'),
        ({"bytes": b"x"}, b'{"bytes":"eA=="}'),
        (math.nan, b"null"),
    ],
    ids=repr,
)
def test_anything_else_becomes_json(value: object, data: bytes) -> None:
    message = encode(value, limit=LIMIT)
    assert message == Message(Form.JSON, data)
    assert not message.is_binary


def test_none_is_no_message() -> None:
    with pytest.raises(NotEncodable, match="None is no message"):
        encode(None, limit=LIMIT)


def test_none_has_a_json_form_all_the_same() -> None:
    assert encode_json(None) == b"null"


def test_a_value_without_a_json_form_is_named_with_its_type() -> None:
    with pytest.raises(NotEncodable, match=r"type Random cannot be sent: .*Random have no JSON"):
        encode(type("Random", (), {})(), limit=LIMIT)


def test_a_value_hidden_deep_inside_is_found() -> None:
    with pytest.raises(NotEncodable, match="objects of type complex have no JSON form"):
        encode({"a": [{"b": 1j}]}, limit=LIMIT)


def test_keys_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(NotEncodable):
        encode({(1, 2): "tuple"}, limit=LIMIT)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotEncodable, match="nested too deeply, or contains itself"):
        encode(value, limit=LIMIT)


@pytest.mark.parametrize("value", ["\ud800", ["\ud800"], {"\ud800": 1}], ids=ascii)
def test_half_a_character_is_refused(value: object) -> None:
    with pytest.raises(NotEncodable, match="surrogates not allowed"):
        encode(value, limit=LIMIT)


@pytest.mark.parametrize("value", ["x" * 101, b"x" * 101, ["x" * 97]], ids=FORMS)
def test_beyond_the_limit_both_numbers_are_told(value: object) -> None:
    with pytest.raises(MessageTooLarge) as caught:
        encode(value, limit=100)
    assert (caught.value.size, caught.value.limit) == (101, 100)


@pytest.mark.parametrize("value", ["x" * 100, b"x" * 100, ["x" * 96]], ids=FORMS)
def test_at_the_limit_a_message_is_taken(value: object) -> None:
    assert len(encode(value, limit=100).data) == 100


def test_the_limit_counts_bytes_and_not_characters() -> None:
    with pytest.raises(MessageTooLarge):
        encode("ü" * 51, limit=100)


def test_an_error_is_an_object_with_its_text() -> None:
    assert error_message('no "room"') == Message(Form.JSON, b'{"error":"no \\"room\\""}')


def test_a_message_is_shown_cut_off_and_with_its_size() -> None:
    assert str(Message(Form.TEXT, b"short")) == "short"
    assert str(Message(Form.TEXT, b"x" * 5000)) == f"{'x' * 200}… (5,000 bytes)"
    assert str(Message(Form.BINARY, b"\x00" * 5000)) == "5000 bytes"


def test_a_text_of_another_class_is_a_text() -> None:
    class Safe(str):
        """As Django marks what may stand in a page."""

        __slots__ = ()

    assert encode(Safe("a"), limit=LIMIT) == Message(Form.TEXT, b"a")
    assert encode_json({Safe("a"): [Safe("b")]}) == b'{"a":["b"]}'


def test_what_push_gives_is_a_text() -> None:
    # `return {"job": queues.get("mail").push(…)}` in a plain handler.
    assert encode_json({"job": PushedJob("an-id")}) == b'{"job":"an-id"}'

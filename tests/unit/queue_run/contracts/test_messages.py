"""A value is encoded once, in the form that clients get."""

import enum
import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from queue_run.contracts.messages import (
    Form,
    Message,
    decode_json,
    encode,
    encode_json,
    error_message,
    user_facts,
)
from queue_run.errors import MessageTooLarge, NotEncodable
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


def test_a_text_with_half_a_character_is_refused() -> None:
    with pytest.raises(NotEncodable, match="surrogates not allowed"):
        encode("\ud800", limit=LIMIT)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (["\ud83d"], b'["\\ud83d"]'),
        ({"\udc00": [{"a": "x\ud83dy"}]}, b'{"\\udc00":[{"a":"x\\ud83dy"}]}'),
        (
            {"whole": "\U0001f600", "half": "\ud83d"},
            '{"whole":"\U0001f600","half":"\\ud83d"}'.encode(),
        ),
    ],
)
def test_half_a_character_is_escaped_in_json(value: object, data: bytes) -> None:
    assert encode_json(value) == data
    assert decode_json(data) == value == json.loads(data)


class Price(float):
    """A float of a class of its own."""


class Count(int):
    """The same of an int."""


class Level(enum.IntEnum):
    HIGH = 3


class Scalar:
    """Has the shape of a scalar of numpy."""

    shape = ()

    def __init__(self, value: float | bool) -> None:
        self.value = value

    def item(self) -> float | bool:
        return self.value

    def __repr__(self) -> str:
        # Names of tests are the same in every process.
        return f"Scalar({self.value})"


class Bag(dict[str, Any]):
    """A dict of a class of its own."""


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (Price(1.5), b"1.5"),
        ({"a": [Count(2), Level.HIGH, Price(0)]}, b'{"a":[2,3,0.0]}'),
        ([Scalar(1.5), Scalar(2), Scalar(True)], b"[1.5,2,true]"),
        (Bag(a=(Price(1.0),)), b'{"a":[1.0]}'),
        ({True: 1, False: 2, None: 3}, b'{"true":1,"false":2,"null":3}'),
        ({1.5: 1, Count(2): 2, Price(4): 4, Level.HIGH: 3}, b'{"1.5":1,"2":2,"4.0":4,"3":3}'),
        (
            {"a": {None: {"b": Decimal("1.5"), "c": date(2024, 1, 2)}}},
            b'{"a":{"null":{"b":"1.5","c":"2024-01-02"}}}',
        ),
        ({None: Room("lobby", ["\ud83d"])}, b'{"null":{"name":"lobby","members":["\\ud83d"]}}'),
        (
            {None: Model(), "p": Point(1, 2), "e": Color.RED},
            b'{"null":{"n":1},"p":{"x":1,"y":2},"e":"red"}',
        ),
        ({"null": None, "b": b"x"}, b'{"null":null,"b":"eA=="}'),
    ],
)
def test_what_json_dumps_would_write_is_written_so(value: object, data: bytes) -> None:
    assert encode_json(value) == data


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, ""),
        (-math.inf, ""),
        ([1, math.nan], " - at `$[1]`"),
        ([2**70, -math.nan], " - at `$[1]`"),
        ({"s": [Room("lobby", []), Room(math.inf, [])]}, " - at `$.s[1].name`"),  # type: ignore[arg-type]
        ({"items": [{}, {"price": math.inf}]}, " - at `$.items[1].price`"),
        ({"a b": {1: Price(math.nan)}}, " - at `$['a b']['1']`"),
        ({"n": Scalar(math.nan)}, " - at `$.n`"),
        ({"p": Point(1, math.nan)}, " - at `$.p.y`"),  # type: ignore[arg-type]
        ({"none": None, "\ud83d": [math.nan]}, r" - at `$['\ud83d'][0]`"),
        ((None, {"x": (1, math.nan)}), " - at `$[1].x[1]`"),
        ({"a": {math.nan: 1}}, " - at `$.a.nan`"),
        ([{-math.inf: None}], " - at `$[0]['-inf']`"),
        ({math.inf: "\ud83d"}, " - at `$.inf`"),
    ],
    ids=ascii,
)
def test_what_is_no_number_is_an_error_that_names_the_field(value: object, path: str) -> None:
    with pytest.raises(NotEncodable) as caught:
        encode_json(value)
    assert str(caught.value).endswith(f"is no number of JSON{path}")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (
            {"items": [1, 2, 3, {"price": 1j}]},
            "objects of type complex have no JSON form - at `$.items[3].price`",
        ),
        ({"a": {(1, 2): 1}}, "tuple is no key of a JSON object - at `$.a['(1, 2)']`"),
        pytest.param(
            {"a": [{None: object()}]},
            "objects of type object have no JSON form - at `$.a[0].None`",
            id="object",
        ),
    ],
    ids=ascii,
)
def test_what_cannot_be_sent_is_named_with_its_place(value: object, path: str) -> None:
    with pytest.raises(NotEncodable) as caught:
        encode_json(value)
    assert str(caught.value).endswith(path)


def test_what_is_deep_and_has_a_null_is_sent() -> None:
    value: Any = None
    for _ in range(700):
        value = [value]
    assert encode_json(value) == b"[" * 700 + b"null" + b"]" * 700


@pytest.mark.parametrize(
    "text", ["", "{", "[NaN]", '["\\ud83d", NaN]', '{"a":"\\ud83d"', "x\\ud83d"]
)
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_json(text)
    with pytest.raises(ValueError, match=r"."):
        decode_json(text.encode())


@pytest.mark.parametrize("start", ["", '["\\ud83d",'])
def test_json_that_is_nested_too_deeply_says_so(start: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        decode_json(start + "[" * 100_000 + "]" * 100_000)


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


@pytest.mark.parametrize(
    ("user", "facts"),
    [
        (None, None),
        ({"id": 7, "name": "\U0001f600"}, {"id": 7, "name": "\U0001f600"}),
        (
            {"id": "ann", "names": ["cut \ud83d", "\ud83d"]},
            {"id": "ann", "names": ["cut \ufffd", "\ufffd"]},
        ),
        ({"id": "a\ud83d", "n\udc00": 1}, {"id": "a\ud83d", "n\ufffd": 1}),
        ({"id": "ann", "said": "\\ud83d"}, {"id": "ann", "said": "\\ud83d"}),
    ],
)
def test_half_characters_of_a_user_are_replaced_but_in_the_id(user: Any, facts: Any) -> None:
    assert user_facts(user) == facts

"""What a handler's annotation makes of a message, on real processes."""

import json
from typing import Any

import pytest

from tests.clients import connected
from tests.processes import Stack


async def assert_refused_then_answered(
    stack: Stack, path: str, wrong: Any, error: str, right: Any, answer: Any
) -> None:
    async with connected(stack.ws(path)) as client:
        assert await client.ask(wrong) == {"error": error}
        assert await client.ask(right) == answer


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"x": "1"}, "data.x: expected `int`, got `str`"),
        ({"y": 1}, "data: object missing required field `x`"),
        ([1], "data: expected `object`, got `array`"),
        ("text", "data: expected `object`, got `str`"),
        (b"\x00", "data: expected `object`, got `bytes`"),
    ],
)
async def test_a_dataclass_is_made_or_the_error_names_the_field(
    document_stack: Stack, wrong: Any, error: str
) -> None:
    await assert_refused_then_answered(
        document_stack, "/validated/point", wrong, error, {"x": 2, "y": 3}, {"sum": 5}
    )


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"name": "ann", "age": "old"}, "data.age: expected `int`, got `str`"),
        ({"age": 1}, "data: object missing required field `name`"),
        ({"name": None}, "data.name: expected `str`, got `null`"),
    ],
)
async def test_a_typed_dict_is_checked_or_the_error_names_the_field(
    document_stack: Stack, wrong: Any, error: str
) -> None:
    await assert_refused_then_answered(
        document_stack,
        "/validated/account",
        wrong,
        error,
        {"name": "ann"},
        {"name": "ann", "age": None},
    )


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (
            {"items": [{"name": "tea", "count": 1}, {"name": "milk", "count": "2"}]},
            "data.items[1].count: expected `int`, got `str`",
        ),
        ({"items": [{"name": "tea", "count": 0}]}, "data.items[0].count: expected `int` >= 1"),
        ({"items": [], "itmes": []}, "data: object contains unknown field `itmes`"),
        ({"items": [], "prices": {"x": 1}}, "data.prices: a key: expected `int`, got `str`"),
    ],
)
async def test_a_struct_is_made_or_the_error_names_the_field_however_deep(
    document_stack: Stack, wrong: Any, error: str
) -> None:
    await assert_refused_then_answered(
        document_stack,
        "/validated/order",
        wrong,
        error,
        {"items": [{"name": "tea", "count": 3}], "prices": {"7": 1.5}},
        {"count": 3, "prices": [7]},
    )


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"type": "leave", "room": "a"}, "data.type: invalid value 'leave'"),
        ({"room": "a"}, "data: object missing required field `type`"),
        ({"type": "say", "room": "a"}, "data: object missing required field `text`"),
    ],
)
async def test_one_of_several_tagged_structs_is_made_by_its_tag(
    document_stack: Stack, wrong: Any, error: str
) -> None:
    await assert_refused_then_answered(
        document_stack,
        "/validated/event",
        wrong,
        error,
        {"type": "say", "room": "b", "text": "hi"},
        {"kind": "Say", "room": "b"},
    )
    async with connected(document_stack.ws("/validated/event")) as client:
        assert await client.ask({"type": "join", "room": "a"}) == {"kind": "Join", "room": "a"}


async def test_a_handler_of_text_takes_text_alone_and_as_it_came(document_stack: Stack) -> None:
    error = "this path takes text, not binary messages"
    await assert_refused_then_answered(
        document_stack, "/validated/text", b"\x00", error, "plain", "PLAIN"
    )
    async with connected(document_stack.ws("/validated/text")) as client:
        await client.send('{"json": 1}')
        assert await client.receive_raw() == '{"JSON": 1}'


async def test_a_handler_of_bytes_takes_binary_frames_alone(document_stack: Stack) -> None:
    error = "this path takes binary messages, not text"
    await assert_refused_then_answered(
        document_stack, "/validated/binary", "text", error, b"\x00\x01", b"\x01\x00"
    )


async def test_a_handler_of_text_or_bytes_takes_both_and_no_other_json(
    document_stack: Stack,
) -> None:
    async with connected(document_stack.ws("/validated/mixed")) as client:
        assert await client.ask("text") == "str"
        assert await client.ask(b"\x00") == "bytes"
        assert await client.ask(7) == {"error": "data: expected `str`, got `int`"}


async def test_a_message_nested_too_deeply_is_an_error_and_the_next_is_answered(
    document_stack: Stack,
) -> None:
    async with connected(document_stack.ws("/validated/point")) as client:
        await client.send("[" * 20_000 + "]" * 20_000)
        assert "error" in json.loads(await client.receive_raw())
        assert await client.ask({"x": 1}) == {"sum": 1}

"""What an annotation makes of a message."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import msgspec
import pytest

from queue_run.application.payloads import annotation_of, validator
from queue_run.errors import ClientError

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass
class Point:
    x: int
    on: date | None = None


class Account(TypedDict):
    name: str


class Join(msgspec.Struct, tag="join"):
    room: str


class Node(msgspec.Struct):
    child: Node | None = None


class Say(msgspec.Struct, tag="say"):
    lines: list[Annotated[str, msgspec.Meta(max_length=3)]]


def checked(value: Any, annotation: Any) -> Any:
    validate = validator(annotation)
    assert validate is not None
    return validate(value)


# Annotations


def test_an_annotation_is_resolved_where_its_function_is_defined() -> None:
    def handler(data: Point) -> None: ...

    assert annotation_of(handler, "data") is Point


def test_without_an_annotation_there_is_none() -> None:
    def handler(data) -> None: ...  # type: ignore[no-untyped-def]

    assert annotation_of(handler, "data") is None
    assert annotation_of(functools.partial(print), "data") is None


def test_those_of_other_parameters_need_not_exist_at_run_time() -> None:
    def handler(data: Point, user: Decimal) -> None: ...

    assert annotation_of(handler, "data") is Point


def test_one_that_does_not_exist_at_run_time_says_what_to_do() -> None:
    def handler(data: Decimal) -> None: ...

    with pytest.raises(TypeError, match=r"'Decimal' is not defined .import it outside"):
        annotation_of(handler, "data")


def test_a_decorated_function_keeps_its_annotation() -> None:
    def handler(data: Point) -> None: ...

    @functools.wraps(handler)
    def wrapper(*args: Any) -> None: ...

    assert annotation_of(wrapper, "data") is Point


def test_what_annotated_adds_is_kept() -> None:
    def handler(data: Annotated[int, msgspec.Meta(ge=1)]) -> None: ...

    with pytest.raises(ClientError, match="data: expected `int` >= 1"):
        checked(0, annotation_of(handler, "data"))


# Values


@pytest.mark.parametrize("annotation", [None, Any, object])
def test_annotations_that_promise_nothing_check_nothing(annotation: Any) -> None:
    assert validator(annotation) is None


@pytest.mark.parametrize(
    ("value", "annotation", "made"),
    [
        ({"x": 1, "on": "2020-02-29"}, Point, Point(1, date(2020, 2, 29))),
        ({"name": "ann"}, Account, {"name": "ann"}),
        ({"type": "join", "room": "a"}, Join | Say, Join("a")),
        ({"type": "say", "lines": ["hi"]}, Join | Say, Say(["hi"])),
        ([1, 2], list[int], [1, 2]),
        ({"7": 1}, dict[int, int], {7: 1}),
        (None, Point | None, None),
        ("text", str, "text"),
        (b"\x00", bytes, b"\x00"),
        ("text", str | bytes, "text"),
        (b"\x00", str | bytes, b"\x00"),
        (b"\x00", bytes | str | Point, b"\x00"),
        ({"x": 1}, bytes | str | Point, Point(1)),
    ],
)
def test_a_value_that_fits_becomes_what_the_annotation_says(
    value: Any, annotation: Any, made: Any
) -> None:
    got = checked(value, annotation)
    assert got == made
    assert type(got) is type(made)


@pytest.mark.parametrize(
    ("value", "annotation", "error"),
    [
        ({"x": "1"}, Point, "data.x: expected `int`, got `str`"),
        ({}, Point, "data: object missing required field `x`"),
        ({"x": 1, "on": "soon"}, Point, "data.on: invalid RFC3339 encoded date"),
        ({"name": 1}, Account, "data.name: expected `str`, got `int`"),
        ({"type": "shout"}, Join | Say, "data.type: invalid value 'shout'"),
        (
            {"type": "say", "lines": ["a", "long"]},
            Join | Say,
            "data.lines[1]: expected `str` of length <= 3",
        ),
        ({"x": 1}, dict[int, int], "data: a key: expected `int`, got `str`"),
        ({"a b": "c"}, dict[str, int], "data[...]: expected `int`, got `str`"),
        (b"\x00", Point, "data: expected `object`, got `bytes`"),
        (7, str | bytes, "data: expected `str`, got `int`"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_that_names_the_field(
    value: Any, annotation: Any, error: str
) -> None:
    with pytest.raises(ClientError) as raised:
        checked(value, annotation)
    assert str(raised.value) == error


def test_values_that_are_nested_too_deeply_are_an_error() -> None:
    deep: dict[str, Any] = {}
    for _ in range(50_000):
        deep = {"child": deep}
    with pytest.raises(ClientError, match="nested too deeply"):
        checked(deep, Node)
    # Taken apart by hand: the interpreter would recurse as well.
    while deep:
        deep = deep.pop("child")


@pytest.mark.parametrize("annotation", [Point | Account, int | Join | Point])
def test_an_annotation_that_cannot_be_checked_is_refused_at_once(annotation: Any) -> None:
    with pytest.raises(TypeError):
        validator(annotation)


class Model:
    """By its shape a pydantic model."""

    @classmethod
    def model_validate(cls, value: Any) -> str:
        if value != "good":
            raise ValueError("field x is wrong")
        return "made"


def test_a_pydantic_model_checks_by_itself() -> None:
    assert checked("good", Model) == "made"
    with pytest.raises(ClientError, match=r"^data: field x is wrong$"):
        checked("bad", Model)

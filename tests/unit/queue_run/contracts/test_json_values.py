"""JSON beyond the quick path. What messages make of it is in test_messages.py."""

from typing import Any

import msgspec
import pytest

from queue_run.contracts import json_values
from queue_run.contracts.json_values import NoJson, NoNumber, deeper_than


@pytest.mark.parametrize("text", [r"\ud83d", r"{\"a\": \"\uDFFF\"}", r"\ud83d\ude00"])
def test_escapes_of_half_characters_are_seen(text: str) -> None:
    assert json_values.may_hold_half_characters(text)


@pytest.mark.parametrize("text", ["", r"\u00fc", "ud83d", r"\ue000", "\U0001f600"])
def test_and_others_are_not(text: str) -> None:
    assert not json_values.may_hold_half_characters(text)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_what_pythons_json_takes_beyond_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no number of JSON"):
        json_values.loads(text)


def test_a_plain_value_is_a_document_that_anybody_can_read() -> None:
    value = {"a": ["\ud83d", 1, 1.5, True, None, "ü"]}
    assert json_values.dumps(value) == '{"a":["\\ud83d",1,1.5,true,null,"ü"]}'.encode()


def test_what_is_encoded_already_is_taken_as_it_is() -> None:
    assert json_values.plain({"a": msgspec.Raw(b"[1]")}) == {"a": [1]}


def test_errors_say_where() -> None:
    with pytest.raises(NoJson, match=r"at `\$\.a\[0\]`"):
        json_values.plain({"a": [object()]})
    with pytest.raises(NoNumber, match=r"^nan is no number of JSON$"):
        json_values.plain(float("nan"))


def test_depth_is_counted_in_arrays_and_objects() -> None:
    value: Any = 1
    for _ in range(5):
        value = {"a": [value]}
    assert not deeper_than(value, 10)
    assert deeper_than(value, 9)
    assert not deeper_than([], 1)
    assert not deeper_than("text", 0)

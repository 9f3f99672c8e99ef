"""`Config`: what a file may say about its handler."""

import math
from typing import Any

import pytest

from queue_run import Config


def test_nothing_is_said_by_default() -> None:
    assert Config() == Config(timeout=None, type=None, ordered=None)


@pytest.mark.parametrize("timeout", [0.5, 1, 300])
def test_a_timeout_is_a_number_of_seconds(timeout: float) -> None:
    assert Config(timeout=timeout).timeout == timeout


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf])
def test_a_timeout_that_never_or_always_ends_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout is a number of seconds above 0, not "):
        Config(timeout=timeout)


@pytest.mark.parametrize("name", ["auto", "json", "text", "binary"])
def test_the_types_of_data(name: Any) -> None:
    assert Config(type=name).type == name


@pytest.mark.parametrize("name", ["JSON", "bytes", "", 1])
def test_another_type_is_refused_with_those_that_exist(name: Any) -> None:
    with pytest.raises(ValueError, match='"auto", "json", "text" or "binary", not '):
        Config(type=name)


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Config(10)  # type: ignore[call-arg]


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="retires"):
        Config(retires=3)  # type: ignore[call-arg]


def test_a_config_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Config().timeout = 1  # type: ignore[misc]

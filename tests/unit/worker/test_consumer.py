"""What is a task for Celery's consumer. Real workers: tests/acceptance/test_unreadable.py."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from kombu import Message

from worker.consumer import check_task

GOOD: list[Any] = [[], {}, {}]


def message(body: object = GOOD, **headers: Any) -> Message:
    return cast("Message", SimpleNamespace(headers=headers, payload=body))


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        [[1], {"a": 1}, None],
        ([], {}, {"callbacks": None}),
        {"task": "a", "id": "1", "args": [1], "kwargs": {}},
        {"task": "a", "id": "1"},
    ],
    ids=repr,
)
def test_a_task_is_one(body: object) -> None:
    check_task(message(body))


@pytest.mark.parametrize("limits", [None, [None, None], [1, 2.5], (3, None)], ids=repr)
def test_its_time_limits_may_be_left_out(limits: object) -> None:
    check_task(message(timelimit=limits))


@pytest.mark.parametrize(
    "body",
    [
        *(None, 5, "text", [], [1], [1, 2, 3], [[], {}], [[], {}, {}, {}]),
        *([5, {}, {}], [[], [], {}], [[], {}, 5], {"args": 5}, {"kwargs": []}),
        {"timelimit": "soon"},
    ],
    ids=repr,
)
def test_what_is_no_task_is_refused(body: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        check_task(message(body))


@pytest.mark.parametrize(
    "limits",
    ["soon", ["a", "b"], [1], 5, {}, [-1, None], [float("nan"), None], [1, 2, 3]],
    ids=repr,
)
def test_time_limits_that_would_end_the_worker_are_refused(limits: object) -> None:
    with pytest.raises(ValueError, match="time limits"):
        check_task(message(timelimit=limits))


def test_headers_that_are_none_are_refused() -> None:
    bad = SimpleNamespace(headers=5, payload=GOOD)
    with pytest.raises(TypeError, match="headers"):
        check_task(cast("Message", bad))

"""Complaints about what clients do: the first in full, the others counted."""

import logging

import pytest

from queue_run.logs import complaints
from queue_run.logs.complaints import Complaints, Few, Seldom
from tests.waiting import eventually_async

log = logging.getLogger("queue_run.test_complaints")


async def test_the_first_are_told_and_the_others_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = Complaints(log, first=3, period=0.05)
    for number in range(1000):
        told.tell("s1-1", "%s: nonsense %d", "s1-1", number)
    assert caplog.messages == [f"s1-1: nonsense {number}" for number in range(3)]
    await eventually_async(lambda: len(caplog.messages) == 4, what="the count")
    assert caplog.messages[3] == "s1-1: 997 more such lines in 0.05 s"
    told.tell("s1-1", "again")
    assert caplog.messages[4:] == ["again"]


async def test_what_others_do_is_told_beside_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = Complaints(log, first=1)
    for number in range(6):
        told.tell(number % 3, "%d", number)
    assert caplog.messages == ["0", "1", "2"]


async def test_a_few_leave_no_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = Complaints(log, first=3, period=0.01)
    told.tell("a", "once", level=logging.WARNING)
    await eventually_async(lambda: not told._counts, what="the end of the period")
    assert [(each.levelname, each.message) for each in caplog.records] == [("WARNING", "once")]


async def test_how_much_is_counted_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complaints, "MAX_KEYS", 10)
    caplog.set_level(logging.INFO)
    told = Complaints(log, first=2)
    for number in range(100):
        told.tell(number, "%d", number)
    assert len(told._counts) == 11
    assert len(caplog.messages) == 12


async def test_what_is_not_logged_is_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    told = Complaints(log)
    told.tell("a", "quiet")
    assert told._counts == {}


async def test_the_lines_of_other_loggers_are_few_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complaints, "PERIOD", 0.05)
    caplog.set_level(logging.INFO)
    other = logging.getLogger("queue_run.test_complaints.other")
    few = Few(other, first=2)
    other.addFilter(few)
    try:
        for number in range(50):
            other.info("malformed: %d", number)
            other.error("a defect %d", number)
        await eventually_async(lambda: "48 more lines" in caplog.text, what="the count")
    finally:
        other.removeFilter(few)
    assert sum("malformed: " in each and "more" not in each for each in caplog.messages) == 2
    assert sum("a defect" in each for each in caplog.messages) == 50


def test_details_are_told_a_few_times_in_a_period() -> None:
    now = [100.0]
    seldom = Seldom(first=2, period=10, clock=lambda: now[0])
    assert [seldom.may_tell("a") for _ in range(4)] == [True, True, False, False]
    assert seldom.may_tell("b")
    now[0] = 109.9
    assert not seldom.may_tell("a")
    now[0] = 110.0
    assert [seldom.may_tell("a") for _ in range(3)] == [True, True, False]


def test_details_of_many_things_take_no_more_memory() -> None:
    seldom = Seldom(first=1)
    for number in range(3 * complaints.MAX_KEYS):
        assert seldom.may_tell(number)
    assert len(seldom._counts) <= complaints.MAX_KEYS


def test_what_was_forgotten_is_news() -> None:
    seldom = Seldom(first=1)
    assert [seldom.may_tell("a") for _ in range(2)] == [True, False]
    seldom.forget()
    assert seldom.may_tell("a")

"""What goes on is told once a minute."""

import logging

import pytest

from queue_run.logs.reminders import MOST, PERIOD, Reminder


def test_the_same_is_told_once_a_minute_and_news_at_once(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    reminder = Reminder(logging.getLogger("some"), "it failed: %s", clock=lambda: now)
    gone, full = ConnectionError("gone"), ConnectionError("full")
    for _ in range(3):
        reminder.tell(gone)
    assert caplog.messages == ["it failed: gone"]
    for _ in range(3):
        reminder.tell(full)
        reminder.tell(gone)
    now = PERIOD
    reminder.tell(full)
    assert caplog.messages == ["it failed: gone", "it failed: full", "it failed: full"]
    reminder.over()
    reminder.tell(full)
    assert len(caplog.messages) == 4


def test_an_error_without_words_is_named(caplog: pytest.LogCaptureFixture) -> None:
    Reminder(logging.getLogger("some"), "it failed: %s").tell(TimeoutError())
    assert caplog.messages == ["it failed: TimeoutError()"]


def test_what_is_remembered_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    reminder = Reminder(logging.getLogger("some"), "it failed: %s")
    for number in range(3 * MOST):
        reminder.tell(ConnectionError(str(number)))
    assert len(caplog.messages) == 3 * MOST
    assert len(reminder._lines._counts) <= MOST

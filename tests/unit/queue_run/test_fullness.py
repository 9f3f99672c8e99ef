"""What is said of a full Redis, and how often."""

import logging

import pytest

from queue_run.fullness import PERIOD, Fullness


def test_a_full_redis_is_told_of_once_a_minute_and_once_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now = 1000.0
    fullness = Fullness(logging.getLogger("part"), "nothing grows", clock=lambda: now)
    fullness.taken()
    assert not fullness
    assert not caplog.messages
    for _ in range(5):
        fullness.refused()
    assert fullness
    [line] = caplog.messages
    assert "maxmemory" in line
    assert line.endswith("Meanwhile nothing grows")
    now += PERIOD
    fullness.refused()
    assert len(caplog.messages) == 2
    fullness.taken()
    fullness.taken()
    assert not fullness
    assert caplog.messages[2:] == ["Redis has room again"]
    fullness.refused()
    assert len(caplog.messages) == 4

"""What is said of a full Redis, and how often."""

import logging

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import ExecAbortError, OutOfMemoryError, ResponseError

from queue_run.errors import JobStoreUnavailable
from queue_run.logs.reminders import PERIOD
from queue_run.storage.fullness import Fullness, is_full
from queue_run.storage.patience import refusal


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


def test_room_now_and_then_makes_no_more_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 1000.0
    fullness = Fullness(logging.getLogger("part"), "nothing grows", clock=lambda: now)
    for _ in range(5):
        fullness.refused()
        assert fullness
        fullness.taken()
        assert not fullness
    assert len(caplog.messages) == 2
    now += PERIOD
    fullness.refused()
    fullness.taken()
    assert len(caplog.messages) == 4


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        # As links of ours have it, which do not know redis-py's classes.
        ResponseError("OOM command not allowed when used memory > 'maxmemory'."),
        # A script in Redis 6.
        ResponseError(
            "Error running script (call to f_55e0): @user_script:2: @user_script: 2: "
            "-OOM command not allowed when used memory > 'maxmemory'."
        ),
        ExecAbortError(
            "Transaction discarded because of: OOM command not allowed when used memory > "
            "'maxmemory'."
        ),
        ResponseError(
            "Command # 1 (LPUSH list 1) of pipeline caused error: command not allowed when used "
            "memory > 'maxmemory'."
        ),
        OperationalError("command not allowed when used memory > 'maxmemory'."),
        JobStoreUnavailable(
            "Redis is full, raise its maxmemory or remove data: command not allowed when used "
            "memory > 'maxmemory'."
        ),
    ],
    ids=["redis-py", "bare", "script of Redis 6", "EXEC", "pipeline", "kombu", "ours"],
)
def test_a_full_redis_is_known_whatever_wraps_its_answer(error: Exception) -> None:
    assert is_full(error)
    assert "Redis is full" in refusal(error)


def test_other_refusals_are_no_full_redis() -> None:
    error = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    assert not is_full(error)
    assert "full" not in refusal(error)

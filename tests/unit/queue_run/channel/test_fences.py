"""Until when an entry may be written. What that is good for is in
tests/contract/test_late_sends.py."""

import time
from typing import Any

import pytest
import redis

from queue_run.channel import fences
from queue_run.channel.fences import CameTooLate, Fences, is_late
from queue_run.storage.clock import Clock


class Redis:
    """A Redis whose clock the test sets."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.failure: Exception | None = None
        self.asked = 0

    def time(self) -> Any:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        now = time.time() + self.ahead
        return int(now), int(now % 1 * 1e6)

    def offset(self, later: float = 0.0) -> bytes:
        """Of an entry that is written now, or so many seconds later."""
        return b"%d-0" % int((time.time() + self.ahead + later) * 1000)


@pytest.fixture
def server() -> Redis:
    return Redis()


@pytest.fixture
def here(server: Redis) -> Fences:
    return Fences(Clock(), server.time)


def soon() -> float:
    return time.monotonic() + 5


def test_an_entry_is_late_when_its_offset_is_beyond_its_fence() -> None:
    assert is_late(b"1700000000000", 1700000000001)
    assert not is_late(b"1700000000000", 1700000000000)


@pytest.mark.parametrize("fence", [b"", b"soon", b"-1", "¹".encode()])
def test_what_is_no_fence_keeps_nothing_out(fence: bytes) -> None:
    assert not is_late(fence, 1700000000001)


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
def test_a_fence_is_a_deadline_by_redis_clock(here: Fences, server: Redis, ahead: float) -> None:
    server.ahead = ahead
    fence = here.fence(soon())
    assert int(fence) / 1000 == pytest.approx(time.time() + ahead + 5, abs=1)
    assert here.holds(fence, server.offset())
    assert not here.holds(fence, server.offset(later=6))


def test_the_clock_is_measured_before_the_first_and_then_now_and_again(
    here: Fences, server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        here.fence(soon())
    assert server.asked == 1
    here.distrust()
    here.fence(soon())
    assert server.asked == 2
    monkeypatch.setattr(fences, "MEASURE_INTERVAL", 0.0)
    here.distrust()
    for _ in range(3):
        here.fence(soon())
    assert server.asked == 5


def test_without_an_answer_there_is_no_fence(here: Fences, server: Redis) -> None:
    server.failure = redis.ConnectionError("away")
    with pytest.raises(redis.ConnectionError):
        here.fence(soon())


def test_an_entry_that_came_too_late_makes_the_clock_be_measured(
    here: Fences, server: Redis
) -> None:
    here.fence(soon())
    server.ahead = 3600
    assert not here.holds(here.fence(soon()), server.offset())
    assert here.holds(here.fence(soon()), server.offset())


def test_a_redis_that_goes_away_meanwhile_is_asked_the_next_time(
    here: Fences, server: Redis
) -> None:
    fence = here.fence(soon())
    server.failure = redis.ConnectionError("away")
    assert not here.holds(fence, server.offset(later=60))
    server.failure = None
    here.fence(soon())
    assert server.asked == 3


def test_offsets_ahead_of_the_clock_are_followed(here: Fences, server: Redis) -> None:
    assert not here.holds(here.fence(soon()), server.offset(later=3600))
    assert here.holds(here.fence(soon()), server.offset(later=3601))


def test_it_says_what_it_is() -> None:
    assert str(CameTooLate()) == "it was written too late"

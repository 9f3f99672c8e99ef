"""Jobs that come too late: a push that raised is not made later.

A write that Redis does not confirm in time may still be done: its bytes wait in the socket of a
Redis that stands still, or on the way. So each says, by Redis' clock, until when it may be done,
and whoever sends it waits for the answer for longer than that.
"""

import time
from collections.abc import Callable

from redis import ConnectionError as RedisConnectionError

from queue_run.storage.clock import Clock, RedisTime
from queue_run.storage.script_files import load

#: Seconds after which the clock is measured again, if nothing has gone wrong before.
MEASURE_INTERVAL = 60.0

#: Of a message that makes room: a drain, or a job that Redis holds in another place until it is
#: with the broker.
ALSO_WHEN_FULL = "queue_run.also_when_full"

#: Puts a message on a list and rings the bell beside it; 0 when it came too late.
PUSH = load("broker/push")


class PushedTooLate(RedisConnectionError):
    """Redis was reached after the time for which an answer is waited for: it did nothing."""

    def __str__(self) -> str:
        return "Redis was reached too late"


class WriteLimits:
    """Until when writes may be done, over links to one Redis.

    Args:
        clock: Redis' time, as somebody else measures it; without it, it is measured here.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._measure_at = 0.0

    def last(self, seconds: float | None, ask: Callable[[], RedisTime]) -> int:
        """Milliseconds of Redis' clock; 0 for no limit.

        Args:
            seconds: for which an answer is waited for, at least, from now on; None for ever.
            ask: asks Redis for its time.
        """
        if seconds is None:
            return 0
        if time.monotonic() >= self._measure_at:
            self._clock.measure(ask)
            self._measure_at = time.monotonic() + MEASURE_INTERVAL
        # Not later than that, however well Redis' clock is known.
        return round((self._clock.now() + seconds - self._clock.doubt) * 1000)

    def distrust(self) -> None:
        """Something went wrong: it may be another Redis, with another clock."""
        self._measure_at = 0.0

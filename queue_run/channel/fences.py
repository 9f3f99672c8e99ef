"""Entries that come too late: no reader gives them out.

A write that Redis does not confirm in time may still be done later: its bytes wait in the socket
of a Redis that stands still, or on the way. Whoever sent it has been told that it failed, and may
have sent other things since. So each entry says until when it may be written, by Redis' clock, and
its offset says when that was. Nothing has to be asked for it, neither by Redis nor of it.
"""

import time
from collections.abc import Callable
from typing import Any, cast

from redis.exceptions import RedisError

from queue_run.storage.clock import Clock, RedisTime

#: The field of an entry that holds its fence: milliseconds of Unix time.
FIELD = "t"
FIELD_BYTES = FIELD.encode()

#: Seconds after which a publisher measures the clock again, if nothing has gone wrong before.
MEASURE_INTERVAL = 60.0


class CameTooLate(Exception):
    """Raised when Redis has written an entry too late: no listener gives it out."""

    def __str__(self) -> str:
        return "it was written too late"


def is_late(fence: bytes, milliseconds: int) -> bool:
    """True if an entry with this fence was written too late.

    Args:
        milliseconds: of its offset.
    """
    return fence.isdigit() and milliseconds > int(fence)


class Fences:
    """The fences of one publisher.

    Args:
        clock: Redis' time.
        ask: asks Redis for its time over the publisher's own link.
    """

    def __init__(self, clock: Clock, ask: Callable[[], Any]) -> None:
        self._clock = clock
        self._ask = ask
        self._measure_at = 0.0
        #: By how many milliseconds offsets are ahead of Redis' clock, where that was set back:
        #: they never go back.
        self._offsets_ahead = 0

    def fence(self, deadline: float) -> bytes:
        """Make the fence of an entry that somebody waits for until `deadline` (monotonic).

        Raises:
            redis.exceptions.RedisError, OSError: when Redis was asked for its time and did not
                answer.
        """
        if time.monotonic() >= self._measure_at:
            self._measure()
            self._offsets_ahead = 0
        # Never later than the deadline, however well Redis' clock is known.
        until = self._clock.at(deadline) - self._clock.doubt
        return b"%d" % (int(until * 1000) + self._offsets_ahead)

    def distrust(self) -> None:
        """Measure the clock again before the next fence: another Redis may answer now."""
        self._measure_at = 0.0

    def holds(self, fence: bytes, offset: bytes) -> bool:
        """True if an entry that Redis has written is in time, so that listeners give it out."""
        milliseconds = int(offset.partition(b"-")[0])
        if milliseconds <= int(fence):
            return True
        # Late, or Redis' clock was set, or its offsets are ahead of it.
        try:
            self._measure()
        except (RedisError, OSError):
            self.distrust()
        else:
            self._offsets_ahead = max(0, milliseconds - int(self._clock.now() * 1000))
        return False

    def _measure(self) -> None:
        self._clock.measure(lambda: cast("RedisTime", self._ask()))
        self._measure_at = time.monotonic() + MEASURE_INTERVAL

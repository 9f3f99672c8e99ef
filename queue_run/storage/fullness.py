"""A full Redis (`maxmemory`, `noeviction`): how it is recognised, and logged once a minute.

A full Redis refuses every command that may make it grow, and every command of a transaction. It
runs a script if the first write of that frees or only expires, and refuses the script whole if the
first write may grow. So the rule for whatever writes to Redis here is:

    What takes, ends, renews, puts back or tells of an end frees first, so that a full Redis does
    it: else nothing would ever make room. What adds (a message, a job, a request) grows first, so
    that it is refused before anything has changed.

Whoever works in the background tries again and again, and is refused each time.
"""

import logging
import time
from collections.abc import Callable

from redis.exceptions import OutOfMemoryError

from queue_run.logs.complaints import Seldom
from queue_run.logs.reminders import PERIOD

#: In the answer of a full Redis, whatever wraps it: a script of Redis 6, a pipeline or transaction,
#: kombu, an error of ours.
_SAID = "used memory > 'maxmemory'"


def is_full(error: BaseException) -> bool:
    """True if an error is the refusal of a full Redis."""
    return isinstance(error, OutOfMemoryError) or _SAID in str(error)


class Fullness:
    """The state of Redis, full or not, as far as one part of a process has seen.

    Args:
        waits: what waits meanwhile, for the log.
        clock: seconds that only grow.
    """

    def __init__(
        self, log: logging.Logger, waits: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._waits = waits
        self._full = False
        #: Whether a line of the log has said so, and none since that there is room.
        self._told = False
        # Where there is room now and then, it does not begin anew.
        self._lines = Seldom(first=1, period=PERIOD, clock=clock)

    def __bool__(self) -> bool:
        return self._full

    def refused(self) -> None:
        """Note that Redis has refused a write because it is full."""
        self._full = True
        if self._lines.may_tell(self._waits):
            self._told = True
            self._log.warning(
                "Redis is full: raise its maxmemory or remove data. Meanwhile %s", self._waits
            )

    def taken(self) -> None:
        """Note that Redis has taken a write that makes it grow."""
        self._full = False
        if self._told:
            self._told = False
            self._log.warning("Redis has room again")

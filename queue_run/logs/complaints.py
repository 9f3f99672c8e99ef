"""Log lines about what clients do, few at a time.

A client may do the same wrong thing thousands of times a second. The first times are told in full,
the others are counted, and the count is told.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable

#: Lines in full about one thing, and the seconds after which there may be as many again.
FIRST = 5
PERIOD = 10.0
#: Things that are counted each for itself at a time; all others share one count.
MAX_KEYS = 1_000
_OTHERS = "others"


class Complaints:
    """Complains to a log; on an event loop alone.

    Args:
        first: lines in full about one thing, in a period.
    """

    def __init__(
        self, log: logging.Logger, *, first: int = FIRST, period: float | None = None
    ) -> None:
        self._log = log
        self._first = first
        self._period = PERIOD if period is None else period
        self._counts: dict[Hashable, int] = {}

    def tell(
        self, about: Hashable, template: str, *arguments: object, level: int = logging.INFO
    ) -> None:
        """Log a line, or count it.

        Args:
            about: whose doing it is: a connection's id, an address.
        """
        if not self._log.isEnabledFor(level):
            return
        if about not in self._counts:
            if len(self._counts) >= MAX_KEYS:
                about = _OTHERS
            asyncio.get_running_loop().call_later(self._period, self._sum_up, about, level)
        count = self._counts[about] = self._counts.get(about, 0) + 1
        if count <= self._first:
            self._log.log(level, template, *arguments)

    def _sum_up(self, about: Hashable, level: int) -> None:
        more = self._counts.pop(about, 0) - self._first
        if more > 0:
            self._log.log(level, "%s: %d more such lines in %g s", about, more, self._period)


class Seldom:
    """Says whether the details of something are to be told once more; in any thread.

    Args:
        first: how often, about one thing in a period.
        most: so many things are remembered.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        *,
        first: int = 20,
        period: float = PERIOD,
        most: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = first
        self._period = period
        self._most = most
        self._clock = clock
        #: How often each was told, and since when that is counted.
        self._counts: dict[Hashable, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def may_tell(self, about: Hashable) -> bool:
        now = self._clock()
        with self._lock:
            count, since = self._counts.get(about, (0, now))
            if now - since >= self._period:
                count, since = 0, now
            if about not in self._counts and len(self._counts) >= self._most:
                self._counts.clear()
            self._counts[about] = (count + 1, since)
        return count < self._first

    def forget(self) -> None:
        """Let what comes later be news."""
        with self._lock:
            self._counts.clear()


class Few(logging.Filter):
    """Lets few records of one template through; for loggers of others."""

    def __init__(self, log: logging.Logger, *, first: int = FIRST) -> None:
        super().__init__()
        self._log = log
        self._first = first
        self._counts: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        template = str(record.msg)[:100]
        if template not in self._counts:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return True
            loop.call_later(PERIOD, self._sum_up, template, record.levelno)
        count = self._counts[template] = self._counts.get(template, 0) + 1
        return count <= self._first

    def _sum_up(self, template: str, level: int) -> None:
        more = self._counts.pop(template, 0) - self._first
        if more > 0:
            self._log.log(level, "%d more lines in %g s like %r", more, PERIOD, template)

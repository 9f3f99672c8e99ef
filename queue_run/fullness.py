"""What a process knows of a full Redis (`maxmemory`, `noeviction`), and says of it: once a minute.

Whoever works in the background tries again and again, and is refused each time.
"""

import logging
import time
from collections.abc import Callable

#: Seconds between two lines of the log that say the same.
PERIOD = 60.0


class Fullness:
    """Whether Redis is full, as far as one part of a process has seen.

    Args:
        waits: what waits meanwhile, for the log.
        clock: seconds that only grow.
    """

    def __init__(
        self, log: logging.Logger, waits: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._waits = waits
        self._clock = clock
        self._next_line: float | None = None

    def __bool__(self) -> bool:
        return self._next_line is not None

    def refused(self) -> None:
        """Redis has refused a write because it is full."""
        now = self._clock()
        if self._next_line is None or now >= self._next_line:
            self._next_line = now + PERIOD
            self._log.warning(
                "Redis is full: raise its maxmemory or remove data. Meanwhile %s", self._waits
            )

    def taken(self) -> None:
        """Redis has taken a write that makes it grow."""
        if self._next_line is not None:
            self._next_line = None
            self._log.warning("Redis has room again")

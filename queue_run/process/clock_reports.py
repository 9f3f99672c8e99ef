"""Telling people that a machine's system clock is wrong.

Nothing in queue-run goes by it (`queue_run.storage.clock`), but tokens that expire, schedules and
applications do. Each process looks at its own clock with every heartbeat: it logs a difference,
and leaves it in Redis, where push servers find it for `/readyz`.
"""

import logging
import math
import time
from collections.abc import Mapping
from typing import NamedTuple

from queue_run.storage.clock import TOLERANCE, Clock
from queue_run.storage.script_files import load

log = logging.getLogger(__name__)

#: Seconds between two log lines, at least.
LOG_INTERVAL = 60.0
#: Leaves the difference of a process in Redis.
TELL = load("clocks/tell")
#: Seconds by which a difference must have changed to be logged once more.
CHANGE = 1.0


class ClockWatch:
    """Logs when the system clock of this machine differs from Redis', and when no more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: The difference that was logged last; zero for none.
        self._logged = 0.0
        self._logged_at = -math.inf

    def look(self) -> float:
        """The difference in seconds; zero for one that is too small to matter."""
        found = self._clock.difference()
        told = found if abs(found) > TOLERANCE else 0.0
        if abs(told - self._logged) > CHANGE and self._may_log():
            self._logged, self._logged_at = told, time.monotonic()
            if told:
                log.warning("the clock of this machine is %s: set it right", in_words(told))
            else:
                log.info("the clock of this machine agrees with that of Redis again")
        return told

    def _may_log(self) -> bool:
        return time.monotonic() - self._logged_at >= LOG_INTERVAL


class ClockReport(NamedTuple):
    """The report that a process has left in Redis about its clock."""

    difference: float
    #: Unix time, by Redis' clock: the process has gone by then, or has told it anew.
    until: float

    def encode(self) -> str:
        return f"{self.difference:.1f} {self.until:.0f}"

    @classmethod
    def decode(cls, data: bytes) -> "ClockReport | None":
        """Decode a report; None for bytes that are not a report of ours."""
        try:
            difference, until = data.split()
            return cls(float(difference), float(until))
        except ValueError:
            return None


def notes(found: Mapping[bytes, bytes], now: float) -> tuple[list[str], list[bytes]]:
    """Sentences for people about what processes have left, by their names; and the names of those
    that are gone."""
    sentences, gone = [], []
    for name, data in sorted(found.items()):
        told = ClockReport.decode(data)
        if told is None or told.until < now:
            gone.append(name)
        else:
            sentences.append(
                f"the clock of {name.decode(errors='replace')} is {in_words(told.difference)}"
            )
    return sentences, gone


def in_words(difference: float) -> str:
    direction = "ahead of" if difference > 0 else "behind"
    return f"{abs(difference):.1f} s {direction} that of Redis"

"""The delay before the next connection. Pure. Times are in seconds."""

import random
from collections.abc import Callable

#: The longest delay after the first failure; it doubles with each further one.
FIRST = 0.5
#: The longest delay of all.
CAP = 30.0


class Backoff:
    """Exponential backoff with full jitter, so that thousands of clients do not come at once.

    Args:
        chance: gives a number from 0 to 1.
    """

    __slots__ = ("_chance", "_failures")

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0

    @property
    def ceiling(self) -> float:
        """The longest that the next delay may be."""
        # The exponent is bounded too: after days of failures it is no float any more.
        return min(CAP, FIRST * 2.0 ** min(self._failures, 10))

    def delay(self) -> float:
        """Count a failed or lost connection; return the delay before the next one, in seconds."""
        delay = self.ceiling * self._chance()
        self._failures += 1
        return delay

    def lasted(self, seconds: float) -> None:
        """Note the seconds that a connection lasted; after a long one the backoff starts anew."""
        if seconds >= self.ceiling:
            self._failures = 0

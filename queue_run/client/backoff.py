"""How long to wait before the next connection. Pure. Times are in seconds."""

import random
from collections.abc import Callable

#: At most so long before the first attempt after a failure; it doubles with each further one.
FIRST = 0.5
#: What it grows to.
CAP = 30.0


class Backoff:
    """Exponential backoff with full jitter: of thousands of clients no two come at once.

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
        """How long to wait now that a connection has failed or was lost."""
        delay = self.ceiling * self._chance()
        self._failures += 1
        return delay

    def lasted(self, seconds: float) -> None:
        """A connection stood so long: one that outlived the delay before it begins anew."""
        if seconds >= self.ceiling:
            self._failures = 0

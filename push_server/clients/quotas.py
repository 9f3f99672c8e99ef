"""Quotas: how much of this push server one user or one address may have.

Pure: time is passed in. A limit or a rate of 0 means that there is no limit.
"""

from collections.abc import Hashable

#: Users or addresses whose rates are kept; the one that came longest ago is forgotten first.
MAX_RATES = 10_000


class Tally:
    """Counts what each user or address has. One that has nothing takes no memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: dict[Hashable, int] = {}

    def full(self, who: Hashable) -> bool:
        """Tell whether `who` has reached the limit."""
        return bool(self.limit) and self._held.get(who, 0) >= self.limit

    def take(self, who: Hashable) -> None:
        if self.limit:
            self._held[who] = self._held.get(who, 0) + 1

    def give_back(self, who: Hashable, count: int = 1) -> None:
        left = self._held.get(who, 0) - count
        if left > 0:
            self._held[who] = left
        else:
            self._held.pop(who, None)

    def __len__(self) -> int:
        return len(self._held)


class Rates:
    """A rate limit for each user or address: a rate for long, two seconds' worth at once."""

    def __init__(self, rate: float) -> None:
        """
        Args:
            rate: per second.
        """
        self._rate = rate
        #: What may come at once, and when that was; who came last stands last.
        self._tokens: dict[Hashable, tuple[float, float]] = {}

    def admits(self, who: Hashable, now: float) -> bool:
        """Note that `who` comes; False for one that comes too fast, which is not counted."""
        if not self._rate:
            return True
        most = max(1.0, 2 * self._rate)
        tokens, seen = self._tokens.pop(who, (most, now))
        tokens = min(most, tokens + (now - seen) * self._rate)
        admitted = tokens >= 1
        self._tokens[who] = (tokens - 1 if admitted else tokens, now)
        if len(self._tokens) > MAX_RATES:
            del self._tokens[next(iter(self._tokens))]
        return admitted

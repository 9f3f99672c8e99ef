"""The pace at which one client may send. Pure: time is passed in."""


class Pace:
    """A token bucket: a rate for long, two seconds' worth at once."""

    __slots__ = ("_rate", "_seen", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        """
        Args:
            rate: messages per second.
            now: seconds, of any clock that only goes forward.
        """
        self._rate = rate
        self._tokens = 2 * rate
        self._seen = now

    def take(self, now: float, cost: float = 1.0) -> float:
        """Note a message, or what costs a part of one; return the seconds for which no other should
        be read."""
        self._tokens = min(2 * self._rate, self._tokens + (now - self._seen) * self._rate) - cost
        self._seen = now
        return 0.0 if self._tokens >= 0 else -self._tokens / self._rate

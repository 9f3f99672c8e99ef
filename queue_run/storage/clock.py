"""Redis' clock, as one process knows it.

The rule: a time that one process writes down and another one reads is Redis' time. Every process
can read that clock, wherever it runs, and scripts in Redis go by it, too. So no two machines have
to agree on what time it is.

Between two measurements the time goes on by this machine's monotonic clock, which nobody sets: a
system clock that is put right while the process runs changes nothing.
"""

import ctypes
import mmap
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

#: What Redis answers to TIME: seconds and microseconds.
RedisTime: TypeAlias = tuple[int, int]

#: Seconds by which the system clock may differ from Redis' before anybody is told.
TOLERANCE = 2.0


class _Shared(ctypes.Structure):
    """In memory that forked children share with their parent."""

    _fields_ = (
        # Redis' time less the monotonic clock's; zero before the first measurement.
        ("base", ctypes.c_double),
        # How wrong that may be, either way, in seconds.
        ("doubt", ctypes.c_double),
        # When somebody last measured, or tried to, by the monotonic clock.
        ("asked_at", ctypes.c_double),
    )


class Clock:
    """Says what time it is for Redis; before the first measurement, for this machine.

    Safe to use from any thread. A forked child has its parent's clock, and hears of what the
    parent measures.
    """

    def __init__(self) -> None:
        self._shared = _Shared.from_buffer(mmap.mmap(-1, ctypes.sizeof(_Shared)))

    def now(self) -> float:
        """Unix time, by Redis' clock."""
        base: float = self._shared.base
        return time.monotonic() + base if base else time.time()

    def at(self, moment: float) -> float:
        """Unix time, by Redis' clock, at a moment of `time.monotonic`."""
        return self.now() + (moment - time.monotonic())

    @property
    def measured(self) -> bool:
        return bool(self._shared.base)

    @property
    def doubt(self) -> float:
        """The error that `now` may have, in either direction, in seconds."""
        doubt: float = self._shared.doubt
        return doubt

    def is_older_than(self, seconds: float) -> bool:
        """True if no process has measured or tried to measure for this number of seconds."""
        asked: float = self._shared.asked_at
        return asked == 0 or time.monotonic() - asked > seconds

    def measure(self, ask: Callable[[], RedisTime]) -> None:
        """Ask Redis for its time.

        Args:
            ask: sends TIME and gives the answer; what it raises is raised here.
        """
        begun = self._shared.asked_at = time.monotonic()
        answer = ask()
        self.learn(answer, begun, time.monotonic())

    async def measure_async(self, ask: Callable[[], Awaitable[RedisTime]]) -> None:
        """The same on an event loop."""
        begun = self._shared.asked_at = time.monotonic()
        answer = await ask()
        self.learn(answer, begun, time.monotonic())

    def learn(self, answer: RedisTime, begun: float, ended: float) -> None:
        """Take in a measurement.

        Redis has read its clock at some moment between the two. What is known already stays where
        the measurement allows it: one that took long, as on a machine that stood still for a
        second, says little, and must not make a good one worse.

        Args:
            begun: when TIME was sent, by the monotonic clock.
            ended: when the answer was there.
        """
        seconds, microseconds = answer
        redis_time = seconds + microseconds / 1_000_000
        low, high = redis_time - ended, redis_time - begun
        base, doubt = self._shared.base, (high - low) / 2
        if base and low <= base <= high:
            self._shared.doubt = min(doubt, self._shared.doubt)
            return
        self._shared.doubt = doubt
        # From the middle at first; later no further than what was measured asks for.
        self._shared.base = min(max(base, low), high) if base else (low + high) / 2

    def difference(self) -> float:
        """The seconds by which this machine's system clock is ahead of Redis', at least.

        Negative for a system clock that is behind; zero where nothing was measured.
        """
        base: float = self._shared.base
        doubt: float = self._shared.doubt
        if not base:
            return 0.0
        # This process may be held up between the two clocks.
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        least, most = wall - (after + base) - doubt, wall - (before + base) + doubt
        return max(0.0, least) if most >= 0 else most

    def from_system(self, at: float) -> float:
        """A Unix time of this machine's system clock, as Redis' clock has it."""
        return self.now() + (at - time.time()) if self.measured else at

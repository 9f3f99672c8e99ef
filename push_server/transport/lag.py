"""The lag of the event loop: all connections wait for so long while one callback runs."""

import asyncio
import collections
import statistics
import time

import msgspec

#: Seconds between two samples while the loop is at work, and at most while it is not. A sample is
#: a timer of no use, for which an idle process wakes up.
BUSY_INTERVAL, IDLE_INTERVAL = 0.05, 1.0
#: The part of its time for which a loop that is at work computes.
BUSY = 0.1
#: Seconds for which samples are kept.
WINDOW = 10.0


class Lag(msgspec.Struct, frozen=True):
    """The lateness of timers lately, in milliseconds."""

    p50: float
    p99: float
    max: float
    #: How many timers that was.
    samples: int


class LagMonitor:
    """Sets timers and notes how late they come."""

    def __init__(self) -> None:
        #: When, and by how many milliseconds.
        self._late: collections.deque[tuple[float, float]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None
        self._interval = BUSY_INTERVAL
        self._computed = 0.0

    def start(self) -> None:
        """Watch the loop that runs now, in this thread."""
        self._computed = time.thread_time()
        self._set(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def note(self, now: float, late: float) -> None:
        """Note how late a timer came. In seconds, of a clock that only goes forward."""
        self._late.append((now, max(0.0, late) * 1000))
        while self._late[0][0] < now - WINDOW:
            self._late.popleft()

    def lag(self) -> Lag:
        """Sum up how late the timers of the last `WINDOW` seconds came."""
        late = sorted(milliseconds for _, milliseconds in self._late)
        if not late:
            return Lag(p50=0.0, p99=0.0, max=0.0, samples=0)
        return Lag(
            p50=round(statistics.median_low(late), 3),
            p99=round(late[min(len(late) - 1, len(late) * 99 // 100)], 3),
            max=round(late[-1], 3),
            samples=len(late),
        )

    def next_interval(self, passed: float, computed: float) -> float:
        """Seconds to the next sample, when the loop has computed for some of those that passed."""
        if computed >= BUSY * passed:
            self._interval = BUSY_INTERVAL
        else:
            self._interval = min(2 * self._interval, IDLE_INTERVAL)
        return self._interval

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        begun = loop.time()
        due = begun + self._interval
        self._timer = loop.call_at(due, self._rang, loop, begun, due)

    def _rang(self, loop: asyncio.AbstractEventLoop, begun: float, due: float) -> None:
        now, computed = loop.time(), time.thread_time()
        try:
            self.note(now, now - due)
            self.next_interval(now - begun, computed - self._computed)
            self._computed = computed
        finally:
            # Without a next timer, an old lag would be reported for ever.
            self._set(loop)

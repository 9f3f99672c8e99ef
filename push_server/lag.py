"""How late the event loop is: what every connection waits for while one callback takes long."""

import asyncio
import collections
import statistics

import msgspec

#: Seconds between two samples. A sample is a timer of no use: more would only cost.
INTERVAL = 0.05
#: Samples that are kept: of the last ten seconds.
SAMPLES = round(10 / INTERVAL)


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
        self._late: collections.deque[float] = collections.deque(maxlen=SAMPLES)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watch the loop that runs now."""
        self._set(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def note(self, seconds: float) -> None:
        """A timer came so late."""
        self._late.append(max(0.0, seconds) * 1000)

    def lag(self) -> Lag:
        """What was seen in the last ten seconds."""
        late = sorted(self._late)
        if not late:
            return Lag(p50=0.0, p99=0.0, max=0.0, samples=0)
        return Lag(
            p50=round(statistics.median_low(late), 3),
            p99=round(late[min(len(late) - 1, len(late) * 99 // 100)], 3),
            max=round(late[-1], 3),
            samples=len(late),
        )

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + INTERVAL
        self._timer = loop.call_at(due, self._rang, loop, due)

    def _rang(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.note(loop.time() - due)
        self._set(loop)

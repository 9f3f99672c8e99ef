"""Time limits of plain code, which no event loop can cancel."""

import _signal  # type: ignore[import-not-found]  # `signal.getsignal` looks for a name
import _thread
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Self, TypeVar

from queue_run.application.requests import Signal
from queue_run.errors import HandlerTimeout

T = TypeVar("T")

#: How long an alarm that has rung is waited for (seconds). The code may have stopped it by itself.
_ALARM_ON_ITS_WAY = 1.0


def run_limited(seconds: float, told: Signal, run: Callable[[], T]) -> T:
    """Run plain code with a time limit, at whose end the code's signal is set.

    In a main thread, where the jobs of prefork and solo workers run, the code is interrupted too.
    In any other thread nothing can interrupt it.

    Raises:
        HandlerTimeout: when it was interrupted.
    """
    with TimeLimits() as limits:
        return limits.run(seconds, told, run)


class TimeLimits:
    """Time limits for several calls in turn, inside a block.

    Between the calls, the alarm's handler stays in its place, and an alarm that was set is not
    switched off: one that rings between them is ignored.
    """

    def __init__(self) -> None:
        self._alarm: _Alarm | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._alarm is not None:
            self._alarm.put_back()

    def run(self, seconds: float, told: Signal, run: Callable[[], T]) -> T:
        """Run one of the calls as `run_limited` does."""
        if self._alarm is None:
            if threading.current_thread() is not threading.main_thread():
                return _run_with_timer(seconds, told, run)
            self._alarm = _Alarm()
        return self._alarm.run(seconds, told, run)


def _run_with_timer(seconds: float, told: Signal, run: Callable[[], T]) -> T:
    timer = threading.Timer(seconds, told.set)
    timer.daemon = True
    timer.start()
    try:
        return run()
    finally:
        timer.cancel()


class _Alarm:
    """The alarm of the process, taken until it is put back."""

    def __init__(self) -> None:
        #: Of the call that runs; without one there is no end.
        self._told: Signal | None = None
        self._seconds = 0.0
        self._end: float | None = None
        #: Whether it was set and has not rung since.
        self._is_set = False
        # It may be set already: by a caller, or for a test's time limit.
        self._began = time.monotonic()
        self._left, self._interval = signal.getitimer(signal.ITIMER_REAL)
        self._before = signal.signal(signal.SIGALRM, self)

    def run(self, seconds: float, told: Signal, run: Callable[[], T]) -> T:
        self._told, self._seconds = told, seconds
        # From here on it may ring at any place, once, also in the last line.
        try:
            self._end = time.monotonic() + seconds
            self._is_set = True
            if _signal.getsignal(signal.SIGALRM) is not self:
                # The call before has put its own handler there.
                signal.signal(signal.SIGALRM, self)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return run()
        finally:
            self._end = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGALRM: interrupt the call that runs, if its time is over.

        Raises:
            HandlerTimeout: in the code of that call.
        """
        if self._end is None:
            self._is_set = False
            return
        left = self._end - time.monotonic()
        if left > 0:
            # It was set for a call before, and has been on its way since.
            signal.setitimer(signal.ITIMER_REAL, left)
            return
        self._is_set, self._end = False, None
        assert self._told is not None
        # From a thread: the code that is interrupted may hold the signal's lock itself.
        _thread.start_new_thread(self._told.set, ())
        raise HandlerTimeout(self._seconds)

    def put_back(self) -> None:
        time_left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        # Without time left it has rung. The kernel may have handed the signal to another thread,
        # which has not told this one yet: the handler put back must not take it for its own.
        given_up = time.monotonic() + _ALARM_ON_ITS_WAY
        while self._is_set and not (time_left or time.monotonic() > given_up):
            time.sleep(0.001)
        signal.signal(signal.SIGALRM, self._before or signal.SIG_DFL)
        if self._left:
            passed = time.monotonic() - self._began
            signal.setitimer(signal.ITIMER_REAL, max(self._left - passed, 0.001), self._interval)

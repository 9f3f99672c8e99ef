"""Time limits of plain code, which no event loop can cancel."""

import _thread
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, TypeVar

from queue_run.errors import HandlerTimeout
from queue_run.requests import Signal

T = TypeVar("T")

#: How long an alarm that has rung is waited for (seconds). The code may have stopped it by itself.
_ALARM_ON_ITS_WAY = 1.0


def run_limited(seconds: float, told: Signal, run: Callable[[], T]) -> T:
    """Run plain code with a time limit, at whose end it is told by its signal.

    In a main thread, where the jobs of prefork and solo workers run, it is interrupted too. In any
    other thread nothing can interrupt it.

    Raises:
        HandlerTimeout: when it was interrupted.
    """
    if threading.current_thread() is threading.main_thread():
        return _run_with_alarm(seconds, told, run)
    timer = threading.Timer(seconds, told.set)
    timer.daemon = True
    timer.start()
    try:
        return run()
    finally:
        timer.cancel()


def _run_with_alarm(seconds: float, told: Signal, run: Callable[[], T]) -> T:
    rang = False

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal rang
        rang = True
        # From a thread: the code that is interrupted may hold the signal's lock itself.
        _thread.start_new_thread(told.set, ())
        raise HandlerTimeout(seconds)

    def stop() -> None:
        time_left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        # Without time left it has rung. The kernel may have handed the signal to another thread,
        # which has not told this one yet: the handler put back must not take it for its own.
        given_up = time.monotonic() + _ALARM_ON_ITS_WAY
        while not (time_left or rang or time.monotonic() > given_up):
            time.sleep(0.001)

    # An alarm may be set already: of a caller, or of a test's time limit.
    began, (left, interval) = time.monotonic(), signal.getitimer(signal.ITIMER_REAL)
    before = signal.signal(signal.SIGALRM, interrupt)
    # It rings once, but at any place until it has been stopped, also in these blocks.
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return run()
        finally:
            stop()
    finally:
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
        if left:
            passed = time.monotonic() - began
            signal.setitimer(signal.ITIMER_REAL, max(left - passed, 0.001), interval)

"""Threads without which a process is deaf: none of them ends of a defect unseen.

Such a thread catches what goes wrong in its work and goes on. What gets past that is a defect of
ours, and then a process that looks alive and does nothing is worse than none. So its owner says
what becomes of it: the process ends, and whoever supervises it starts another one; or, where the
process may be an application's own, another thread goes on with what waits.

Every thread of ours that stands for longer than one call is a `VitalThread`; there is a test of it
(`tests/unit/test_threads.py`).
"""

import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Exit code of a process that has lost a part of itself.
EXIT_LOST = 1


class VitalThread(threading.Thread):
    """A daemon thread that is not to end before it was told to.

    Args:
        work: what it does; it returns when, and only when, it was told to end.
        on_loss: called in the thread when the work has raised, whatever that was.
    """

    def __init__(self, work: Callable[[], None], *, name: str, on_loss: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._on_loss = on_loss

    def run(self) -> None:
        try:
            self._work()
        except BaseException:
            # Also SystemExit, of which Python says nothing in a thread.
            log.critical("the thread %s ended unexpectedly", self.name, exc_info=True)
            self._on_loss()


def end_process() -> None:
    """End this process now, with `EXIT_LOST`; what is logged is written."""
    logging.shutdown()
    os._exit(EXIT_LOST)


def end_process_within(seconds: float) -> threading.Timer:
    """End this process after so many seconds, unless it ends by itself or cancels what this gives
    back."""
    timer = threading.Timer(seconds, end_process)
    timer.daemon = True
    timer.start()
    return timer

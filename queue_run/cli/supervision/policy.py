"""The rule by which a program that ended starts again. No process and no clock in here."""

import signal

#: By convention of the framework's workers and of Celery: what was asked for cannot work, and
#: the reason has been printed. Starting again without a change would only print it again.
CANNOT_WORK = 2

FIRST_DELAY = 0.5
MAX_DELAY = 15.0
#: A program that ran this long had started well: its next failure is a new one.
STABLE_AFTER = 20.0


class RestartPolicy:
    """The delays of one program: doubled with each failure in a row, up to `MAX_DELAY`.

    Args:
        awaits_change: a program that ends with `CANNOT_WORK` waits until a file has changed.
    """

    def __init__(self, *, awaits_change: bool = False) -> None:
        self._awaits_change = awaits_change
        self._next = FIRST_DELAY

    def delay(self, status: int, *, ran_for: float) -> float | None:
        """Seconds until the program starts again; None: it starts after the next change only."""
        if self._awaits_change and status == CANNOT_WORK:
            return None
        if ran_for >= STABLE_AFTER:
            self.reset()
        return self.delay_of_start()

    def delay_of_start(self) -> float:
        """Seconds until the next attempt to start a program that could not be started."""
        delay, self._next = self._next, min(MAX_DELAY, 2 * self._next)
        return delay

    def reset(self) -> None:
        """Count from the beginning: a change may have mended the program."""
        self._next = FIRST_DELAY


def describe_exit(status: int) -> str:
    """Describe in words how a process ended: its exit code, or the signal that killed it."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"

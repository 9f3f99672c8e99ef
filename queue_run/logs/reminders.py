"""Reminders: lines of the log about a lasting failure, each logged once a minute."""

import logging
import time
from collections.abc import Callable

from queue_run.logs.complaints import Seldom

#: Seconds between two lines that say the same.
PERIOD = 60.0
#: So many different lines are remembered.
MOST = 20


class Reminder:
    """One thing that does not work, as the log tells it.

    Args:
        text: of the line, with a place for what was said.
        clock: seconds that only grow.
    """

    def __init__(
        self, log: logging.Logger, text: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._text = text
        self._lines = Seldom(first=1, period=PERIOD, most=MOST, clock=clock)

    def tell(self, error: BaseException) -> None:
        """Log a failure, unless the same was logged within the last minute."""
        said = str(error) or repr(error)
        if self._lines.may_tell(said):
            self._log.warning(self._text, said)

    def over(self) -> None:
        """Note that it works again: the next failure is logged at once."""
        self._lines.forget()

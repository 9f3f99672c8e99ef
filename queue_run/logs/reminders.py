"""Lines of the log about what goes on: whoever tries again and again says it once a minute."""

import logging
import time
from collections.abc import Callable

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
        self._clock = clock
        #: When each line may be written again.
        self._next_lines: dict[str, float] = {}

    def tell(self, error: BaseException) -> None:
        """It does not work: log it, unless the same was logged within the last minute."""
        said, now = str(error) or repr(error), self._clock()
        if now < self._next_lines.get(said, now):
            return
        if len(self._next_lines) >= MOST:
            self._next_lines.clear()
        self._next_lines[said] = now + PERIOD
        self._log.warning(self._text, said)

    def over(self) -> None:
        """It works: what comes later is news."""
        self._next_lines.clear()

"""Periodic work in a thread of its own."""

import logging
import threading
from collections.abc import Callable

from queue_run.threads.vital import VitalThread

log = logging.getLogger(__name__)


class Caretaker(VitalThread):
    """Does its round again and again, until it is stopped; no failure of a round ends it.

    Args:
        round: what is done; it deals with what it expects to go wrong.
        interval: seconds between two rounds.
        waits_first: whether the first one comes after an interval, and not at once.
        purpose: what has failed with a round that raises, for the log.
        on_loss: called in the thread when that ends of a defect.
    """

    def __init__(
        self,
        round: Callable[[], None],
        interval: float,
        *,
        name: str,
        purpose: str,
        on_loss: Callable[[], None],
        waits_first: bool = False,
    ) -> None:
        super().__init__(self._go_round, name=name, on_loss=on_loss)
        self._round = round
        self._interval = interval
        self._purpose = purpose
        self._waits_first = waits_first
        self._stopping = threading.Event()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Begin no other round, and return when the one that runs has ended."""
        self._stopping.set()
        self.join()

    def _go_round(self) -> None:
        if self._waits_first and self._stopping.wait(self._interval):
            return
        while True:
            try:
                self._round()
            except Exception:
                # Without this thread nothing of its kind would be done any more.
                log.exception("%s failed unexpectedly", self._purpose)
            if self._stopping.wait(self._interval):
                return

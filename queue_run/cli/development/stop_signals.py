"""Ctrl+C, once and twice."""

import asyncio
import signal
from collections.abc import Callable


class StopSignals:
    """Listens to the signals that end the session.

    Attributes:
        requested: set by the first: end in order.
        forced: set by the second: end now.
    """

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()

    def install(self, *, on_hangup: Callable[[], None] | None = None) -> None:
        """Handle the signals on the running loop.

        Args:
            on_hangup: what SIGHUP asks for; without it, the end.
        """
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, self._interrupt)
        if on_hangup:
            loop.add_signal_handler(signal.SIGHUP, on_hangup)
        elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Else: nohup, stay.
            loop.add_signal_handler(signal.SIGHUP, self.request)

    def request(self) -> None:
        """Ask for the end, in order."""
        self.requested.set()

    def _interrupt(self) -> None:
        if self.requested.is_set():
            self.forced.set()
        self.requested.set()

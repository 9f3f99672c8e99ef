"""Ctrl+C, once and twice."""

import asyncio
import signal


class StopSignals:
    """Listens to the signals that end the session.

    Attributes:
        requested: set by the first: end in order.
        forced: set by the second: end now.
    """

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()

    def install(self) -> None:
        """Handle the signals on the running loop."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, self._interrupt)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Else: nohup, stay.
            loop.add_signal_handler(signal.SIGHUP, self.request)

    def request(self) -> None:
        """Ask for the end, in order."""
        self.requested.set()

    def _interrupt(self) -> None:
        if self.requested.is_set():
            self.forced.set()
        self.requested.set()

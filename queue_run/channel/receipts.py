"""What a publish gives back, in synchronous and asynchronous code alike."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Generator
from typing import Any

from queue_run.storage.fullness import Fullness, is_full

log = logging.getLogger(__name__)

_fullness = Fullness(log, "messages that nobody waits for are not sent")


class Receipt:
    """Tells when a message is on the channel.

    In synchronous code it is complete when `send` returns. In asynchronous code, await it; without
    the await the message goes out all the same, in order, and a failure is logged.
    """

    __slots__ = ("_error", "_observed", "_waiters", "done", "offset", "online")

    def __init__(self) -> None:
        #: Position on the stream; None until the message is there, or if its connection is gone.
        self.offset: str | None = None
        #: How many of the users it was sent to had an open connection then; None until that is
        #: known, and for what was not sent to users.
        self.online: int | None = None
        #: Whether it is known how the publish ended.
        self.done = False
        self._error: BaseException | None = None
        self._observed = False
        #: What wakes those who wait.
        self._waiters: list[Callable[[], object]] = []

    def complete(self, offset: str | None, error: BaseException | None = None) -> None:
        """Called once by the publisher, on whichever thread wrote the message."""
        self.offset = offset
        self._error = error
        self.done = True
        while self._waiters:
            self._waiters.pop()()

    def wait(self, timeout: float) -> None:
        """Block until the message is on the channel.

        Raises:
            ChannelUnavailable: when it could not be written.
            TimeoutError: after `timeout` seconds.
        """
        finished = threading.Event()
        self._on_end(finished.set)
        if not finished.wait(timeout):
            raise TimeoutError(f"the channel gave no answer within {timeout:g} seconds")
        self.raise_error()

    def raise_error(self) -> None:
        """Raise what went wrong, if the message could not be written."""
        self._observed = True
        if self._error is not None:
            raise self._error

    def __await__(self) -> Generator[Any, None, "Receipt"]:
        yield from self.settled().__await__()
        self.raise_error()
        return self

    async def settled(self) -> None:
        """Wait until it is known how the publish ended, without raising."""
        if self.done:
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._on_end(lambda: _wake(loop, waiter))
        await waiter

    def _on_end(self, wake: Callable[[], object]) -> None:
        """Call this once when the publish has ended, at once if it has."""
        self._waiters.append(wake)
        # The publisher may not have seen it.
        if self.done:
            with contextlib.suppress(ValueError):
                self._waiters.remove(wake)
                wake()

    def __del__(self) -> None:
        if self._error is None or self._observed:
            return
        if is_full(self._error):
            _fullness.refused()
        else:
            log.error("a message that nobody waited for was not sent: %s", self._error)


def finished(offset: str | None = None, *, online: int | None = None) -> Receipt:
    """The receipt of a send that has ended already."""
    receipt = Receipt()
    receipt.online = online
    receipt.complete(offset)
    return receipt


def _wake(loop: asyncio.AbstractEventLoop, waiter: "asyncio.Future[None]") -> None:
    try:
        loop.call_soon_threadsafe(_finish, waiter)
    except RuntimeError:
        log.debug("the loop that waited for a message is closed")


def _finish(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)

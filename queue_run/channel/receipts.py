"""Receipts: the result of a publish, in synchronous and asynchronous code alike."""

import logging
import threading
from collections.abc import Generator
from typing import Any

import msgspec

from queue_run.contracts.answers import Answer, warn_of_former
from queue_run.storage.fullness import Fullness, is_full

log = logging.getLogger(__name__)

_fullness = Fullness(log, "messages that nobody waits for are not sent")


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The place of a message on its stream, and how many users it may have reached."""

    #: Position on the stream; None if its connection is gone, or nothing was to be sent.
    offset: str | None = None
    #: How many of the users it was sent to had an open connection then; None where that could not
    #: be counted, and for what was not sent to users.
    online: int | None = None

    # Former spellings, until 1.0: what an await gave was what it had awaited.

    @property
    def done(self) -> bool:
        """A message with a receipt has been sent."""
        warn_of_former("receipt.done", "the receipt itself: its message was sent")
        return True

    def wait(self, timeout: float) -> None:
        """Return at once: a message with a receipt has been sent."""
        warn_of_former("receipt.wait()", "await, or nothing in synchronous code")

    def raise_error(self) -> None:
        """Do nothing: a failure was raised before there was a receipt."""
        warn_of_former("receipt.raise_error()", "await, or nothing in synchronous code")

    async def settled(self) -> None:
        """Return at once: a message with a receipt has been sent."""
        warn_of_former("receipt.settled()", "await, or nothing in synchronous code")

    def __await__(self) -> Generator[Any, None, "Receipt"]:
        warn_of_former("await receipt", "the receipt itself: it was awaited")
        yield from ()
        return self


class Sending(Answer[Receipt]):
    """A message on its way to the channel, whose answer is its receipt."""

    def _unheard(self, error: BaseException) -> None:
        if is_full(error):
            _fullness.refused()
        else:
            log.error("a message that nobody waited for was not sent: %s", error)

    def __bool__(self) -> bool:
        # Before it was awaited, too: `if sent: await sent`.
        return True

    # Former spellings, until 1.0: the answer was the receipt.

    @property
    def offset(self) -> str | None:
        """The receipt's, None until it is known."""
        warn_of_former("send(…).offset", "send(…).value.offset, or (await send(…)).offset")
        receipt = self.peek()
        return None if receipt is None else receipt.offset

    @property
    def online(self) -> int | None:
        """The receipt's, None until it is known."""
        warn_of_former("send(…).online", "send(…).value.online, or (await send(…)).online")
        receipt = self.peek()
        return None if receipt is None else receipt.online

    def wait(self, timeout: float) -> None:
        """Block until the message is on the channel; raise what went wrong."""
        warn_of_former("send(…).wait()", "await, or nothing in synchronous code")
        ended = threading.Event()
        self.on_end(ended.set)
        if not ended.wait(timeout):
            raise TimeoutError(f"the channel gave no answer within {timeout:g} seconds")
        self.now()

    def raise_error(self) -> None:
        """Raise what went wrong, if that is known."""
        warn_of_former("send(…).raise_error()", "send(…).value, or await")
        if self.done:
            self.now()


def finished(receipt: Receipt) -> Sending:
    """The answer of a send that has ended already, and that is still to be awaited."""
    sending = Sending()
    sending.complete(receipt)
    return sending

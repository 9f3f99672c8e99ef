"""The call that the current code runs in: a request, or a job."""

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from queue_run.channel.receipts import Receipt
from queue_run.ids import ConnectionId, UserId


@dataclass(slots=True, kw_only=True)
class Call:
    """A running request or job, and what it has sent."""

    #: What `on_authenticate` returned; None for an anonymous user.
    user: Any
    user_id: UserId | None
    #: The requesting connection; None in a job.
    connection: ConnectionId | None = None
    #: Everything it sent to users, in order.
    sent: list[Receipt] = field(default_factory=list)

    async def last_offset(self) -> str | None:
        """Wait until all that was sent is on the channel; the position of the last of it."""
        last = None
        for receipt in self.sent:
            await receipt.settled()
            last = receipt.offset or last
        return last


_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar("queue_run_call", default=None)


def current() -> Call | None:
    """The call that runs here; None outside requests and jobs."""
    return _call.get()


@contextlib.contextmanager
def running(call: Call) -> Iterator[Call]:
    """Make it the current call inside the block."""
    token = _call.set(call)
    try:
        yield call
    finally:
        _call.reset(token)

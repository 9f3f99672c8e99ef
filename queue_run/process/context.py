"""The call that the current code runs in: a request, or a job."""

import contextlib
import contextvars
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from queue_run.application.requests import SentMessage
from queue_run.channel.receipts import Receipt
from queue_run.contracts.answers import Answer
from queue_run.contracts.ids import ConnectionId, UserId


@dataclass(slots=True, kw_only=True)
class Call:
    """A running request or job, and what it has sent."""

    #: What `on_authenticate` returned; None for an anonymous user.
    user: Any
    user_id: UserId | None
    #: The requesting connection; None in a job.
    connection: ConnectionId | None = None
    #: Of the connection, where its client speaks the envelope protocol.
    session: str | None = None
    #: Everything it sent to users, in order.
    sent: list[Answer[Receipt]] = field(default_factory=list)
    #: The job that runs, if one does: what it sends it may have sent in an attempt before.
    job_id: str | None = None
    #: Numbers what a job sends.
    send_numbers: Iterator[int] = field(default_factory=itertools.count)
    #: The middleware for what it sends; without it the process's own is used.
    on_sent: Callable[[SentMessage], None] | None = None

    async def last_offset(self) -> str | None:
        """Wait until all that was sent is on the channel; the position of the last of it."""
        last = None
        for sending in self.sent:
            if not sending.done:
                await sending.settled()
            receipt = sending.peek()
            last = (receipt and receipt.offset) or last
        return last


def outside() -> Call:
    """A call without a user, whose messages are not reported to middleware."""
    return Call(user=None, user_id=None, on_sent=_tell_nobody)


def _tell_nobody(message: SentMessage) -> None:
    """Ignore a message: it was sent by middleware, and is not reported to middleware."""


_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar("queue_run_call", default=None)


def current() -> Call | None:
    """The call that runs here; None outside requests and jobs."""
    return _call.get()


class running:
    """Make it the current call inside the block; None makes it a place outside all calls."""

    # As a generator it would take several times as long, and it is used for every request and job.
    __slots__ = ("_call", "_token")

    def __init__(self, call: Call | None) -> None:
        self._call = call

    def __enter__(self) -> Call | None:
        self._token = _call.set(self._call)
        return self._call

    def __exit__(self, *exc: object) -> None:
        _call.reset(self._token)


def enter(call: Call) -> None:
    """Make it the current call for the rest of this `contextvars.Context`."""
    _call.set(call)


class Expiry:
    """The time at which a connection that is being authenticated must end."""

    def __init__(self) -> None:
        #: Unix time; None for never.
        self.at: float | None = None


_expiry: contextvars.ContextVar[Expiry | None] = contextvars.ContextVar(
    "queue_run_expiry", default=None
)


@contextlib.contextmanager
def collecting_expiry() -> Iterator[Expiry]:
    """Gather what `expire_connection` is told inside the block."""
    expiry = Expiry()
    token = _expiry.set(expiry)
    try:
        yield expiry
    finally:
        _expiry.reset(token)


def expire_connection(at: float) -> None:
    """In `on_authenticate`: the connection is closed with 4401 at this Unix time, or earlier if
    another call says so. `queue_run.jwt` calls it for a token that expires; elsewhere it does
    nothing.
    """
    expiry = _expiry.get()
    if expiry is not None:
        expiry.at = at if expiry.at is None else min(expiry.at, at)

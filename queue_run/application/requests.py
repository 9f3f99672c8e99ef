"""The objects that handlers, jobs and middleware get."""

import base64
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from queue_run.contracts.ids import ConnectionId, RequestId, UserId


class Signal:
    """Tells a handler or job that it should stop: it timed out, was cancelled, or its process shuts
    down.

    Safe to ask from any thread.
    """

    __slots__ = ("_event", "_is_set", "_making")

    def __init__(self) -> None:
        self._is_set = False
        #: Held while the event is made.
        self._making = threading.Lock()
        #: Made for the first who waits: most signals are never waited for.
        self._event: threading.Event | None = None

    def set(self) -> None:
        self._is_set = True
        with self._making:
            event = self._event
        if event is not None:
            event.set()

    def is_set(self) -> bool:
        """True as soon as the handler or job should stop."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Block for at most `timeout` seconds; True as soon as the handler should stop."""
        with self._making:
            if self._event is None:
                self._event = threading.Event()
        # Set before there was an event: it will not be told.
        return self._is_set or self._event.wait(timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One inbound WebSocket message, as a handler sees it."""

    connection: ConnectionId
    #: JSON value, text or bytes.
    data: Any
    request_id: RequestId
    #: What `on_authenticate` returned; None for an anonymous user.
    user: Any
    path: str
    #: Values of the parameters in the route's path.
    params: dict[str, str]
    #: Of the URL that was connected to; the last value where a name is repeated.
    query: dict[str, str]
    signal: Signal
    #: The file that answers, for people: `sockets/chat.py`.
    file: str = ""


# A Struct is made in a fraction of the time that a frozen dataclass takes.
class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a job, as its handler and middleware see it."""

    job_id: str
    queue_name: str
    #: JSON value, text or bytes, as it was pushed.
    payload: Any
    #: The user whose request or job pushed it; None for a job without a user.
    user: Any = None
    #: Unix time; None when it was not pushed through `queue_run.queues`.
    queued_at: float | None = None
    #: From 1.
    attempt: int = 1
    #: How often it was taken back from the dead letters, which starts its attempts anew.
    revived: int = 0
    #: FIFO queues: the group that it was pushed to.
    group_id: str | None = None
    #: FIFO queues: grows with every job of the queue.
    sequence_number: int | None = None
    #: Given beside the payload.
    params: dict[str, str] = msgspec.field(default_factory=dict)
    signal: Signal = msgspec.field(default_factory=Signal)
    #: The file that runs it, for people: `queues/report.py`.
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A message that was sent, as `on_message_sent` sees it."""

    #: JSON value, text or bytes, as it was given to `send` or returned.
    data: Any
    #: The connection that it goes to, for a reply or where there is no user.
    connection: ConnectionId | None = None
    #: The users that it goes to.
    users: tuple[UserId, ...] = ()
    #: The room that it goes to.
    room: str | None = None

    @property
    def target(self) -> str:
        """The receivers, in words for the log: a room, a connection, or the first three users."""
        if self.room is not None:
            return f"room {self.room}"
        if self.connection is not None:
            return self.connection
        shown = ", ".join(self.users[:3])
        more = len(self.users) - 3
        return f"{shown} and {more} more" if more > 0 else shown


@dataclass(frozen=True, kw_only=True)
class ConnectionRequest:
    """A connection that asks to be accepted, as `on_authenticate` sees it."""

    path: str
    query: dict[str, str]
    #: By lower-case name; repeated headers are joined with a comma (RFC 9110, 5.3).
    headers: dict[str, str] = field(repr=False)
    remote_ip: str
    #: The first message, where `on_authenticate` has asked for it with `AskToken`.
    message: Any = field(default=None, repr=False)

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies (RFC 6265, 5.4); one that is malformed does not hide the others."""
        found: dict[str, str] = {}
        for pair in self.headers.get("cookie", "").split(";"):
            name, equals, value = pair.strip().partition("=")
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            if equals and name.strip():
                # Browsers send the cookie of the longest path first.
                found.setdefault(name.strip(), value)
        return found

    @property
    def origin(self) -> str | None:
        """The page that opened the connection; None outside browsers."""
        return self.headers.get("origin")

    @property
    def bearer_token(self) -> str | None:
        """The client's token: of `Authorization: Bearer …` (RFC 6750), of a subprotocol
        `bearer.…`, or of a first message `{"token": …}`."""
        return self._credentials("bearer") or self._subprotocol_token() or self._message_token()

    @property
    def basic_auth(self) -> tuple[str, str] | None:
        """User and password of `Authorization: Basic …` (RFC 7617)."""
        encoded = self._credentials("basic")
        if encoded is None:
            return None
        try:
            decoded = base64.b64decode(encoded, validate=True).decode()
        except ValueError:
            return None
        user, colon, password = decoded.partition(":")
        return (user, password) if colon else None

    def _subprotocol_token(self) -> str | None:
        for offered in self.headers.get("sec-websocket-protocol", "").split(","):
            prefix, dot, token = offered.strip().partition(".")
            if prefix == "bearer" and dot and token:
                return token
        return None

    def _message_token(self) -> str | None:
        token = self.message.get("token") if isinstance(self.message, dict) else None
        return token if isinstance(token, str) and token else None

    def _credentials(self, scheme: str) -> str | None:
        found, _, credentials = self.headers.get("authorization", "").partition(" ")
        return credentials.strip() or None if found.lower() == scheme else None


def parse_query(text: str) -> dict[str, str]:
    """The query of a URL; the last value where a name is repeated."""
    return dict(parse_qsl(text, keep_blank_values=True)) if text else {}


def is_utf8_query(text: str) -> bool:
    """Whether the query of a URL means text: `parse_query` replaces bytes that do not (U+FFFD)."""
    try:
        parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        return False
    return True

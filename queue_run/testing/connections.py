"""The connections of a test's clients, and the messages that have reached them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from queue_run.contracts.envelopes import Inbound
from queue_run.contracts.ids import ConnectionId, RequestId, UserId, id_of_user
from queue_run.contracts.messages import Form, Message, decode_json, encode_json
from queue_run.errors import QueueRunError


class Disconnected(QueueRunError):
    """Raised when a client sends, but its connection is closed.

    Args:
        code: of the close frame; None when the client has left by itself.
        reason: of the close frame.
    """

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        if self.code is None:
            return "the client sends after the end of its block"
        return f"the connection was closed with {self.code} {self.reason}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """The request with which a client connects."""

    path: str = "/"
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    remote_ip: str = "127.0.0.1"
    #: Whether the client's requests take turns: the file that answers its path says so.
    ordered: bool = True


class Connection:
    """One open connection of a client."""

    def __init__(self, connection_id: ConnectionId, handshake: Handshake) -> None:
        #: The connection's id, as handlers get it.
        self.id = connection_id
        self.handshake = handshake
        #: The user, as handlers get it; None for an anonymous user.
        self.user: Any = None
        #: All messages that the client has got, in order: JSON decoded, text, bytes.
        self.received: list[Any] = []
        #: The errors that `on_error` got for the client's requests, in order: all failures of
        #: handlers, and of `on_message_sent`.
        self.errors: list[BaseException] = []
        #: Code and reason with which the connection was closed; None while it is open.
        self.closed: tuple[int, str] | None = None
        #: Unix time at which the client's token expires; None for never.
        self.expires: float | None = None
        #: The rooms that the connection is in.
        self.rooms: set[str] = set()
        #: Whether the client's first message must be its token.
        self.owes_token = False
        #: Held by the request whose turn it is.
        self.turn = asyncio.Lock()
        self._requests = 0
        self._left = False

    def __repr__(self) -> str:
        user = f" of user {self.user_id}" if self.user_id is not None else ""
        return f"<{type(self).__name__} {self.id}{user} at {self.handshake.path}>"

    @property
    def user_id(self) -> UserId | None:
        """The id of the client's user; None for an anonymous user."""
        return id_of_user(self.user)

    @property
    def is_open(self) -> bool:
        """True while messages reach the client."""
        return not (self._left or self.owes_token or self.closed)

    def take(self, message: Message) -> None:
        """Receive a message."""
        self.received.append(decoded(message))

    def close(self, code: int, reason: str) -> None:
        """Close the connection, as a push server does; the client leaves its rooms."""
        self.closed = code, reason
        self.rooms.clear()

    def leave(self) -> None:
        """Note that the client is gone: its block has ended."""
        self._left = True

    def require_connected(self) -> None:
        """Check that the client can still send.

        Raises:
            Disconnected: when it cannot.
        """
        if self._left:
            raise Disconnected
        if self.closed is not None:
            raise Disconnected(*self.closed)

    def next_request_id(self) -> RequestId:
        self._requests += 1
        return RequestId(f"{self.id}-{self._requests}")

    def frame(self, message: object) -> Inbound:
        """Make the frame of a message: text and bytes as they are, anything else as JSON.

        Raises:
            NotEncodable: when the message has no JSON form.
        """
        if isinstance(message, str):
            return Inbound(id=self.next_request_id(), text=message)
        if isinstance(message, bytes | bytearray | memoryview):
            return Inbound(id=self.next_request_id(), binary=bytes(message))
        return Inbound(id=self.next_request_id(), text=encode_json(message).decode())


def decoded(message: Message) -> Any:
    """Decode a message, as a client reads it."""
    match message.form:
        case Form.JSON:
            return decode_json(message.data)
        case Form.TEXT:
            return message.data.decode()
        case Form.BINARY:
            return message.data
        case _:
            assert_never(message.form)


def header_list(
    headers: Mapping[str, str] | None, cookies: Mapping[str, str] | None
) -> tuple[tuple[str, str], ...]:
    """The headers of a handshake."""
    found = list((headers or {}).items())
    if cookies:
        found.append(("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items())))
    return tuple(found)

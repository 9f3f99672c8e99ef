"""The envelope protocol `queue-run.v1`: its frames, as JSON text (docs/protocol.md).

Push servers and `queue_run.client` share them. Pure. Times are in milliseconds here, as clients in
browsers take them.
"""

from typing import Literal, TypeAlias

import msgspec

#: The WebSocket subprotocol that asks for it.
SUBPROTOCOL = "queue-run.v1"
#: Characters of a request's id where that is a text.
MAX_ID_LENGTH = 64

#: How a client names its request: the answer has the same id.
ClientId: TypeAlias = int | str


class ClientFrame(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A frame of the client: a request, which has no type, or one of the types below."""

    type: Literal["resume", "start", "ping", "pong"] | msgspec.UnsetType = msgspec.UNSET
    #: A request, its content in one of the two forms: JSON, or bytes as base64.
    id: ClientId | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    binary: bytes | msgspec.UnsetType = msgspec.field(name="bytes", default=msgspec.UNSET)
    #: Of `resume`: where the client was, as the server has told it.
    session: str | msgspec.UnsetType = msgspec.UNSET
    offset: str | msgspec.UnsetType = msgspec.UNSET
    epoch: str | msgspec.UnsetType = msgspec.UNSET


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """The first frame of the server."""

    connection: str
    session: str
    #: The user's id; null for an anonymous one.
    user: str | None
    offset: str
    epoch: str
    #: The server is heard at least this often.
    heartbeat: int
    #: How long the session outlives the socket.
    resume: int


class MessageFrame(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="message"):
    """A message; without an offset where it went to this connection alone."""

    offset: str | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    binary: bytes | msgspec.UnsetType = msgspec.field(name="bytes", default=msgspec.UNSET)


class Reply(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="reply"):
    """The outcome of a request; neither data nor bytes where the handler returned nothing."""

    id: ClientId
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    binary: bytes | msgspec.UnsetType = msgspec.field(name="bytes", default=msgspec.UNSET)


class ErrorFrame(msgspec.Struct, frozen=True, kw_only=True, tag="error"):
    """A request that failed; without an id, a frame that could not be understood."""

    id: ClientId | None
    error: str


class Resumed(msgspec.Struct, frozen=True, kw_only=True, tag="resumed"):
    """All that was missed has been sent."""

    session: str
    offset: str


class Gap(msgspec.Struct, frozen=True, kw_only=True, tag="gap"):
    """Messages before this offset may have been missed: load the state anew."""

    session: str
    offset: str
    epoch: str


class Ping(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="ping"):
    """To be answered with a pong; everything up to the offset has been sent."""

    offset: str | msgspec.UnsetType = msgspec.UNSET


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag="pong"):
    """The answer to a client's ping."""


class Reconnect(msgspec.Struct, frozen=True, kw_only=True, tag="reconnect"):
    """The server is about to end: connect again after so many milliseconds, and resume."""

    after: int


ServerFrame: TypeAlias = (
    Welcome | MessageFrame | Reply | ErrorFrame | Resumed | Gap | Ping | Pong | Reconnect
)

_encoder = msgspec.json.Encoder()
_client_decoder = msgspec.json.Decoder(ClientFrame)
_server_decoder: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(ServerFrame)


def encode(frame: ClientFrame | ServerFrame) -> bytes:
    """The frame as JSON."""
    return _encoder.encode(frame)


def decode_client(text: str) -> ClientFrame:
    """A frame of the client.

    Raises:
        ValueError: for what is none, in words for its author.
    """
    try:
        return _client_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None


def decode_server(text: str | bytes) -> ServerFrame:
    """A frame of the server.

    Raises:
        ValueError: for what is none.
    """
    try:
        return _server_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None

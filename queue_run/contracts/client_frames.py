"""The envelope protocol `queue-run.v1`: its frames, as JSON text (docs/protocol.md).

Push servers and `queue_run.client` share them. Pure. Times are in milliseconds here, as clients in
browsers take them.
"""

from typing import Literal, TypeAlias, TypeVar, cast

import msgspec

from queue_run.contracts import json_values
from queue_run.contracts.messages import TOO_DEEP

#: The WebSocket subprotocol that asks for it.
SUBPROTOCOL = "queue-run.v1"
#: Characters of a request's id where that is a text.
MAX_ID_LENGTH = 64

#: How a client names its request: the answer has the same id.
ClientId: TypeAlias = int | str


class ClientFrame(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True
):
    """A frame of the client: a request, which has no type, or one of the types below.

    It has the fields of its kind and no others. A client that says more than the server
    understands means something else than the server would do.
    """

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
    """The frame after which a resumed session goes on: all that was missed has been sent."""

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

#: The fields that a frame of the client has by its type, beside `type`; a request has no `type`.
FIELDS = {
    msgspec.UNSET: frozenset({"id", "data", "bytes"}),
    "resume": frozenset({"session", "offset", "epoch"}),
    "start": frozenset(),
    "ping": frozenset(),
    "pong": frozenset(),
}


#: What is wrong with a frame that has one where it is no data of a handler.
HALF_CHARACTER = "half a character (a lone surrogate) can stand in data only"


class NotUnderstood(ValueError):
    """A frame that means nothing; the text says why, in words for its author.

    Args:
        id: of the request that it was to be, where that can be read.
    """

    def __init__(self, id: ClientId | None, reason: str) -> None:
        super().__init__(reason)
        self.id = id


class _Named(msgspec.Struct, frozen=True):
    """The id of a frame, whatever else it has."""

    id: ClientId | msgspec.UnsetType = msgspec.UNSET


T = TypeVar("T")

#: For each kind of frame the fields that it does not have: their attributes, and their names.
_FOREIGN = {
    kind: [
        (field.name, field.encode_name)
        for field in msgspec.structs.fields(ClientFrame)
        if field.encode_name not in {"type", *known}
    ]
    for kind, known in FIELDS.items()
}

_encoder = msgspec.json.Encoder()
_name_decoder = msgspec.json.Decoder(_Named)
_client_decoder = msgspec.json.Decoder(ClientFrame)
_server_decoder: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(ServerFrame)


def encode(frame: ClientFrame | ServerFrame) -> bytes:
    """The frame as JSON."""
    return _encoder.encode(frame)


def decode_client(text: str) -> ClientFrame:
    """Decode a frame of a client.

    Raises:
        NotUnderstood: for a text that is not a frame of a client.
    """
    try:
        frame = _decode(text, _client_decoder)
    except RecursionError:
        raise NotUnderstood(_id_of(text), TOO_DEEP) from None
    except ValueError as error:
        raise NotUnderstood(_id_of(text), str(error)) from None
    if frame.type is not msgspec.UNSET or _has_place(frame):
        _check_fields(frame)
    return frame


def _has_place(frame: ClientFrame) -> bool:
    unset = msgspec.UNSET
    return not (frame.offset is unset and frame.session is unset and frame.epoch is unset)


def _check_fields(frame: ClientFrame) -> None:
    """Check that a frame has no fields of another kind of frame.

    Raises:
        NotUnderstood: when it has.
    """
    for attribute, name in _FOREIGN[frame.type]:
        if getattr(frame, attribute) is not msgspec.UNSET:
            kind = "request" if frame.type is msgspec.UNSET else frame.type
            raise NotUnderstood(_usable(frame.id), f"a {kind} has no field `{name}`")


def _id_of(text: str) -> ClientId | None:
    """The id of a frame that is JSON, whatever is wrong with its other fields.

    The client that sent the frame waits for the outcome of a request with this id.
    """
    try:
        if json_values.may_hold_half_characters(text):
            name = _usable(msgspec.convert(json_values.loads(text), _Named).id)
            # One with half a character in it could not be sent back.
            encode(ErrorFrame(id=name, error=""))
            return name
        return _usable(_name_decoder.decode(text).id)
    except (ValueError, RecursionError):
        return None


def _usable(found: ClientId | msgspec.UnsetType) -> ClientId | None:
    if isinstance(found, str):
        return found if 0 < len(found) <= MAX_ID_LENGTH else None
    return None if found is msgspec.UNSET else found


def decode_server(text: str | bytes) -> ServerFrame:
    """Decode a frame of a server.

    Raises:
        ValueError: for a text that is not a frame of a server.
    """
    try:
        return _decode(text, _server_decoder)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def _decode(text: str | bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """Decode a frame; half characters are accepted in its `data`.

    Raises:
        ValueError, RecursionError: for a text that is not a frame.
    """
    try:
        return decoder.decode(text)
    except msgspec.DecodeError as error:
        shown = text.decode() if isinstance(text, bytes) else text
        if not json_values.may_hold_half_characters(shown):
            raise
        whole = json_values.loads(shown)
        if not isinstance(whole, dict):
            raise error
    # msgspec takes no half characters, not even in what it is to leave as it is.
    try:
        rest = _encoder.encode({**whole, "data": 0} if "data" in whole else whole)
    except UnicodeEncodeError:
        raise ValueError(HALF_CHARACTER) from None
    frame = decoder.decode(rest)
    if "data" not in whole:
        return frame
    data = msgspec.Raw(json_values.dumps(whole["data"]))
    return cast("T", msgspec.structs.replace(cast("msgspec.Struct", frame), data=data))

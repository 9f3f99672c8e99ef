"""Envelopes: the entries that travel between push servers and workers.

Pure: bytes in, frozen structs out. Two directions, each a closed set of kinds:

- the channel (workers to push servers): one version byte, then msgpack `[kind, id, …]`. A push
  server decides from the head whether anyone here is addressed; the message inside is already in
  its client form and is never parsed.
- the dispatch (push servers to workers): one JSON text, the only argument of a Celery task, so
  that it can be read in any Celery tool.

A reader refuses another version by name, instead of guessing at its fields.
"""

import hashlib
import itertools
import os
from typing import NamedTuple, TypeAlias, assert_never

import msgspec

from queue_run.contracts.ids import ConnectionId, RequestId, ServerId, UserId
from queue_run.contracts.messages import Message
from queue_run.errors import InvalidEnvelope

VERSION = 1
_VERSION_BYTE = bytes([VERSION])

# --- The channel: workers to push servers ---


class _IdSource:
    """Ids that no other process makes, and that a retry carries unchanged."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._prefix = os.urandom(8)
        self._count = itertools.count()

    def __call__(self) -> bytes:
        return self._prefix + next(self._count).to_bytes(5, "big")


_new_id = _IdSource()
os.register_at_fork(after_in_child=_new_id.renew)


class _ChannelEnvelope(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    #: A publish whose confirmation was lost is repeated under the same id, and dropped once seen.
    id: bytes = msgspec.field(default_factory=_new_id)


class ToUsers(_ChannelEnvelope, frozen=True, array_like=True, kw_only=True, tag="users"):
    """A message to all connections of these users."""

    users: list[UserId]
    message: Message


class CloseUsers(_ChannelEnvelope, frozen=True, array_like=True, kw_only=True, tag="close-users"):
    """Close all connections of these users with a WebSocket close code (RFC 6455, 7.4)."""

    users: list[UserId]
    code: int
    reason: str


class ToRoom(_ChannelEnvelope, frozen=True, array_like=True, kw_only=True, tag="room"):
    """A message to all connections in a room, but for the sender where it asks for that."""

    room: str
    message: Message
    without_connection: ConnectionId | None = None
    without_user: UserId | None = None
    #: The sender's session, where it has one: its connection may be another by now.
    without_session: str | None = None


class Membership(_ChannelEnvelope, frozen=True, array_like=True, kw_only=True, tag="membership"):
    """Connections join or leave a room: one of them, or all of these users.

    It travels with what is sent to rooms, so that a message sent after a join reaches who joined.
    """

    room: str
    joins: bool
    connection: ConnectionId | None = None
    users: list[UserId] = []
    #: Of the connection, where it has one.
    session: str | None = None


class ToConnection(_ChannelEnvelope, frozen=True, array_like=True, kw_only=True, tag="connection"):
    """A message to one connection; with a session, to whichever connection has that now."""

    connection: ConnectionId
    message: Message
    session: str | None = None


class CloseConnection(
    _ChannelEnvelope, frozen=True, array_like=True, kw_only=True, tag="close-connection"
):
    """Close one connection."""

    connection: ConnectionId
    code: int
    reason: str


class Outcome(_ChannelEnvelope, frozen=True, array_like=True, kw_only=True, tag="outcome"):
    """The end of a request: a reply, an error, or neither."""

    connection: ConnectionId
    request: RequestId
    reply: Message | None = None
    error: str | None = None
    #: Broadcast offset of the last message that the handler sent: it goes out first.
    after: str | None = None


class Admitted(NamedTuple):
    """A client may come in."""

    #: A JSON object; None for an anonymous one.
    user: bytes | None
    #: Unix time, by Redis' clock, at which the connection must end.
    expires: float | None


class TokenWanted(NamedTuple):
    """A client is asked for a token in its first message."""


class Refusal(NamedTuple):
    """A client may not come in."""

    #: Of HTTP.
    status: int
    reason: str


Admission: TypeAlias = Admitted | TokenWanted | Refusal

#: Statuses that are no refusal.
_ADMITTED, _TOKEN_WANTED = 200, 100


class Authenticated(
    _ChannelEnvelope, frozen=True, array_like=True, kw_only=True, tag="authenticated"
):
    """The answer to `Authenticate`, as it travels: read it as `admission`, make it with `of`."""

    request: RequestId
    #: 200, 100 for a token that is wanted, or that of the refusal.
    status: int
    user: bytes | None = None
    reason: str = ""
    expires: float | None = None

    @classmethod
    def of(cls, request: RequestId, admission: Admission) -> "Authenticated":
        match admission:
            case Admitted():
                return cls(
                    request=request,
                    status=_ADMITTED,
                    user=admission.user,
                    expires=admission.expires,
                )
            case TokenWanted():
                return cls(request=request, status=_TOKEN_WANTED)
            case Refusal():
                return cls(request=request, status=admission.status, reason=admission.reason)
            case _:
                assert_never(admission)

    @property
    def admission(self) -> Admission:
        if self.status == _ADMITTED:
            return Admitted(self.user, self.expires)
        if self.status == _TOKEN_WANTED:
            return TokenWanted()
        return Refusal(self.status, self.reason)


class ApplicationChanged(
    _ChannelEnvelope, frozen=True, array_like=True, kw_only=True, tag="application"
):
    """Workers offer something new: read the manifest again."""

    version: str


class Hello(_ChannelEnvelope, frozen=True, array_like=True, kw_only=True, tag="hello"):
    """First entry of a push server's stream: workers write only to streams that exist."""


def repeatable(envelope: "ToUsers | ToRoom | CloseUsers", job: str, number: int) -> bytes:
    """The id of what a job sends: the same in every attempt that sends the same at this place.

    Args:
        job: the job's id.
        number: of the send within its attempt, from 0.
    """
    if isinstance(envelope, ToUsers | CloseUsers):
        # A set of users has another order in every process.
        users = sorted(envelope.users)
        envelope = msgspec.structs.replace(envelope, id=b"", users=users)
    else:
        envelope = msgspec.structs.replace(envelope, id=b"")
    place = f"{job} {number} ".encode()
    return hashlib.blake2b(place + _channel_encoder.encode(envelope), digest_size=13).digest()


ChannelEnvelope: TypeAlias = (
    ToUsers
    | CloseUsers
    | ToRoom
    | Membership
    | ToConnection
    | CloseConnection
    | Outcome
    | Authenticated
    | ApplicationChanged
    | Hello
)

_channel_encoder = msgspec.msgpack.Encoder()
_channel_decoder: msgspec.msgpack.Decoder[ChannelEnvelope] = msgspec.msgpack.Decoder(
    ChannelEnvelope
)


def encode(envelope: ChannelEnvelope) -> bytes:
    """The envelope in its wire form."""
    return _VERSION_BYTE + _channel_encoder.encode(envelope)


def decode(data: bytes) -> ChannelEnvelope:
    """The envelope that the bytes hold.

    Raises:
        InvalidEnvelope: for another version, an unknown kind or fields that do not fit.
    """
    if data[:1] != _VERSION_BYTE:
        raise InvalidEnvelope(data, f"version {data[:1]!r} where {VERSION} is spoken")
    try:
        return _channel_decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEnvelope(data, str(error)) from None


# --- The dispatch: push servers to workers ---


class Inbound(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One request: a text frame or a binary one."""

    id: RequestId
    text: str | None = None
    binary: bytes | None = None
    #: Whether the text is JSON for certain, and not by its looks: also a text is quoted then.
    json: bool = False

    @property
    def data(self) -> str | bytes:
        return self.text if self.text is not None else self.binary or b""


class Turn(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="turn"):
    """Requests of one connection, to be run one after another in this order."""

    connection: ConnectionId
    path: str
    query: str = ""
    #: What `on_authenticate` returned.
    user: msgspec.Raw = msgspec.Raw(b"null")
    #: Of a connection that speaks the envelope protocol.
    session: str | None = None
    requests: list[Inbound]
    #: Unix time, by Redis' clock; a worker that gets the turn later drops it: its clients have had
    #: their answer.
    expires: float


class Authenticate(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="authenticate"
):
    """A connection that asks to be accepted."""

    id: RequestId
    server: ServerId
    path: str
    query: str = ""
    headers: list[tuple[str, str]]
    remote_ip: str
    #: The first message of a connection that was asked for its token.
    message: Inbound | None = None
    #: Unix time, by Redis' clock.
    expires: float


Work: TypeAlias = Turn | Authenticate

_dispatch_encoder = msgspec.json.Encoder()
_dispatch_decoder: msgspec.json.Decoder[list[Work]] = msgspec.json.Decoder(list[Work])


def encode_batch(batch: list[Work]) -> str:
    """The batch as the text that a Celery task carries."""
    return f"{VERSION}{_dispatch_encoder.encode(batch).decode()}"


def decode_batch(text: object) -> list[Work]:
    """The batch that the text holds.

    Raises:
        InvalidEnvelope: for another version or fields that do not fit.
    """
    if not isinstance(text, str):
        raise InvalidEnvelope(repr(text)[:40].encode(errors="replace"), "a batch is a text")
    shown = text[:40].encode(errors="replace")
    if text[:2] != f"{VERSION}[":
        raise InvalidEnvelope(shown, f"version {text[:1]!r} where {VERSION} is spoken")
    try:
        return _dispatch_decoder.decode(text[1:])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidEnvelope(shown, str(error)) from None

"""The envelope protocol `queue-run.v1` (docs/protocol.md), for one connection.

A state machine without I/O: frames of the client become events, and what the client is to get
becomes frames.
"""

import enum
import hashlib
from typing import NamedTuple, TypeAlias, TypeVar, assert_never

import msgspec

from push_server.rfc6455.frames import text_frame
from queue_run.channel.listener import Offset, format_offset
from queue_run.contracts import client_frames
from queue_run.contracts.client_frames import ClientFrame, ClientId
from queue_run.contracts.envelopes import Inbound, Outcome
from queue_run.contracts.ids import RequestId
from queue_run.contracts.messages import Form, Message

#: Characters of what is wrong with a frame: a part of it may be quoted.
MAX_ERROR = 200


#: Bytes of the name by which Redis knows a request; longer ones are made shorter.
MAX_CLAIM_NAME = 64


class Phase(enum.Enum):
    """The phases of a connection: messages to the client are held, replayed, or sent at once."""

    #: Not until its first frame has said whether it resumes.
    HELD = "held"
    #: It gets what it missed; what comes meanwhile follows from the window.
    REPLAYING = "replaying"
    LIVE = "live"


class Asked(NamedTuple):
    """A request."""

    id: ClientId
    #: JSON, or bytes.
    data: str | bytes


class Resume(NamedTuple):
    """The client continues where it was."""

    session: str | None
    offset: str
    epoch: str


class Start(NamedTuple):
    """The client has nothing to resume."""


class Pinged(NamedTuple):
    """The client wants to know whether this server lives."""


class Ponged(NamedTuple):
    """The client lives."""


class Misunderstood(NamedTuple):
    """A frame that means nothing."""

    id: ClientId | None
    error: str


Filled = TypeVar("Filled", client_frames.MessageFrame, client_frames.Reply)

Event: TypeAlias = Asked | Resume | Start | Pinged | Ponged | Misunderstood


class Session:
    """One connection's side of the protocol."""

    __slots__ = (
        "_asked",
        "_asked_since",
        "_names",
        "held_frames",
        "id",
        "offset",
        "open",
        "phase",
        "since",
    )

    def __init__(self, id: str, offset: Offset) -> None:
        #: Outlives the connection: another one may take it over.
        self.id = id
        #: Where the session began: what changed before that was not for this session.
        self.since = offset
        #: Everything up to here has been sent, or is not for this client.
        self.offset = offset
        self.phase = Phase.HELD
        #: Ids of requests without an outcome.
        self.open: set[ClientId] = set()
        #: Requests, and since when they are counted.
        self._asked = 0
        self._asked_since = 0.0
        self._names: dict[RequestId, ClientId] = {}
        #: Answers that came while the client got what it missed: they follow that.
        self.held_frames: list[bytes] = []

    # From the client.

    def received(self, data: str | bytes) -> Event:
        """Decode a frame of the client into an event; a bad frame gives `Misunderstood`."""
        if isinstance(data, bytes):
            return Misunderstood(None, "frames of this protocol are text: send bytes as base64")
        try:
            frame = client_frames.decode_client(data)
        except client_frames.NotUnderstood as error:
            return Misunderstood(error.id, _short(str(error)))
        match frame.type:
            case "pong":
                return Ponged()
            case "ping":
                return Pinged()
            case "start":
                return Start()
            case "resume":
                return _resume(frame)
            case msgspec.UnsetType():
                return _asked(frame)
            case _:
                assert_never(frame.type)

    def accept(self, request: RequestId, client_id: ClientId) -> None:
        """Note the name of a request on its way."""
        self._names[request] = client_id
        self.open.add(client_id)

    def claim_name(self, request: RequestId) -> str:
        """The client's id of an open request, as JSON: texts and numbers stay apart."""
        name = msgspec.json.encode(self._names[request])
        if len(name) <= MAX_CLAIM_NAME:
            return name.decode()
        # A letter outside of quotes: no other name begins so.
        return f"h{hashlib.blake2b(name, digest_size=16).hexdigest()}"

    def counted(self, now: float, period: float) -> int:
        """Count a request; return how many there were in the current period.

        Args:
            now: seconds, of a clock that only goes forward.
            period: seconds after which the count begins anew.
        """
        if now - self._asked_since > period:
            self._asked, self._asked_since = 0, now
        self._asked += 1
        return self._asked

    # To the client.

    def message(self, message: Message) -> bytes:
        """A message that goes to this connection alone."""
        return message_frame(message, None)

    def outcome(self, outcome: Outcome) -> bytes | None:
        """The answer to a request."""
        if outcome.error is not None:
            return self.error(outcome.request, outcome.error)
        answered = self._answered(outcome.request)
        if outcome.reply is None:
            return _encoded(client_frames.Reply(id=answered))
        return _encoded(_filled(client_frames.Reply(id=answered), outcome.reply))

    def refusal(self, text: str) -> bytes:
        """An error frame that belongs to no request: its id is null."""
        return _encoded(client_frames.ErrorFrame(id=None, error=text))

    def error(self, request: RequestId, text: str) -> bytes:
        """The error frame that answers a request which has failed."""
        return _encoded(client_frames.ErrorFrame(id=self._answered(request), error=text))

    def _answered(self, request: RequestId) -> ClientId:
        name = self._names.pop(request)
        self.open.discard(name)
        return name

    def welcome(
        self, *, connection: str, user: str | None, epoch: str, heartbeat: float, resume: float
    ) -> bytes:
        """The first frame. Times in seconds."""
        return _encoded(
            client_frames.Welcome(
                connection=connection,
                session=self.id,
                user=user,
                offset=format_offset(self.offset),
                epoch=epoch,
                heartbeat=milliseconds(heartbeat),
                resume=milliseconds(resume),
            )
        )

    def resumed(self) -> bytes:
        return _encoded(client_frames.Resumed(session=self.id, offset=format_offset(self.offset)))

    def gap(self, epoch: str) -> bytes:
        offset = format_offset(self.offset)
        return _encoded(client_frames.Gap(session=self.id, offset=offset, epoch=epoch))


def message_frame(message: Message, offset: Offset | None) -> bytes:
    """A message; one with an offset is the same for every client that gets it."""
    named = msgspec.UNSET if offset is None else format_offset(offset)
    return _encoded(_filled(client_frames.MessageFrame(offset=named), message))


def misunderstood_frame(event: Misunderstood) -> bytes:
    return _encoded(client_frames.ErrorFrame(id=event.id, error=event.error))


def ping_frame(offset: Offset | None) -> bytes:
    return _encoded(
        client_frames.Ping(offset=msgspec.UNSET if offset is None else format_offset(offset))
    )


PONG_FRAME = text_frame(client_frames.encode(client_frames.Pong()))


def reconnect_frame(after: float) -> bytes:
    """Ask the client to connect again after so many seconds."""
    return _encoded(client_frames.Reconnect(after=milliseconds(after)))


def inbound(request: RequestId, asked: Asked) -> Inbound:
    """The request that a client's frame makes."""
    if isinstance(asked.data, str):
        return Inbound(id=request, text=asked.data, json=True)
    return Inbound(id=request, binary=asked.data)


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _short(text: str) -> str:
    """Shorten the error of a frame, which may quote the frame, to `MAX_ERROR` characters."""
    return text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]}…"


def _resume(frame: ClientFrame) -> Event:
    if frame.offset is msgspec.UNSET or frame.epoch is msgspec.UNSET:
        return Misunderstood(None, "a resume has an offset and an epoch")
    session = None if frame.session is msgspec.UNSET else frame.session
    return Resume(session, frame.offset, frame.epoch)


def _asked(frame: ClientFrame) -> Event:
    name = frame.id
    if name is msgspec.UNSET:
        return Misunderstood(None, "a request has an id")
    if isinstance(name, str) and not 0 < len(name) <= client_frames.MAX_ID_LENGTH:
        return Misunderstood(None, f"an id has 1 to {client_frames.MAX_ID_LENGTH} characters")
    if (frame.data is msgspec.UNSET) == (frame.binary is msgspec.UNSET):
        return Misunderstood(name, "a request has either data or bytes")
    if frame.binary is not msgspec.UNSET:
        return Asked(name, frame.binary)
    assert frame.data is not msgspec.UNSET
    return Asked(name, bytes(frame.data).decode())


def _filled(frame: Filled, message: Message) -> Filled:
    """The frame with a message in it."""
    if message.form is Form.BINARY:
        return msgspec.structs.replace(frame, binary=message.data)
    if message.form is Form.TEXT:
        return msgspec.structs.replace(
            frame, data=msgspec.Raw(msgspec.json.encode(message.data.decode()))
        )
    return msgspec.structs.replace(frame, data=msgspec.Raw(message.data))


def _encoded(frame: client_frames.ServerFrame) -> bytes:
    return text_frame(client_frames.encode(frame))

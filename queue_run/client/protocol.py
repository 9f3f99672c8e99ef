"""The client's side of the envelope protocol: its state, and its answers (docs/protocol.md).

Pure: frames come in, events and frames go out. The time is passed in, as seconds of a monotonic
clock. Everything that outlives a socket is kept here: the session, the offset, the requests without
an answer.
"""

import enum
import logging
from collections import deque
from typing import Any, TypeAlias, assert_never

import msgspec

from queue_run.client.errors import OutcomeUnknown, RequestFailed
from queue_run.contracts.client_frames import (
    ClientFrame,
    ErrorFrame,
    Gap,
    MessageFrame,
    Ping,
    Pong,
    Reconnect,
    Reply,
    Resumed,
    ServerFrame,
    Welcome,
    decode_server,
    encode,
)
from queue_run.contracts.messages import decode_json, encode_json
from queue_run.errors import QueueRunError

log = logging.getLogger(__name__)

_START = encode(ClientFrame(type="start"))
_PONG = encode(ClientFrame(type="pong"))


class NoWelcome(QueueRunError):
    """Raised when the server's first frame is not a welcome of the protocol."""


# Events.


class Received(msgspec.Struct, frozen=True):
    """A message came: a JSON value, text or bytes."""

    value: Any


class Missed(msgspec.Struct, frozen=True):
    """Messages may have been missed at this place."""


class Answered(msgspec.Struct, frozen=True):
    """A request has ended with a reply: the value that its handler returned."""

    id: int
    value: Any


class Failed(msgspec.Struct, frozen=True):
    """A request has ended without a reply."""

    id: int
    error: QueueRunError


class Ready(msgspec.Struct, frozen=True):
    """The client has caught up: all missed messages were received, and requests are sent."""


class Moving(msgspec.Struct, frozen=True):
    """The server is about to end: connect again after this number of seconds."""

    after: float


Event: TypeAlias = Received | Missed | Answered | Failed | Ready | Moving


class _Phase(enum.Enum):
    DOWN = enum.auto()  # no socket
    GREETING = enum.auto()  # a socket, and no welcome yet
    RESUMING = enum.auto()  # `resume` is sent, and not answered yet
    UP = enum.auto()


class _Unanswered:
    """A request without an answer."""

    __slots__ = ("frame", "session")

    def __init__(self, frame: bytes) -> None:
        self.frame = frame
        #: The session in which it was written; None before that.
        self.session: str | None = None


class Protocol:
    """The state of one client, over any number of sockets."""

    def __init__(self) -> None:
        self.user: str | None = None
        self.session: str | None = None
        #: The last session, after its end.
        self._ended: str | None = None
        self.offset: str | None = None
        self.epoch: str | None = None
        #: Seconds; a server that is well is heard at least this often.
        self.heartbeat = 0.0
        #: Seconds that the session outlives its socket.
        self._resume = 0.0
        #: When a frame of the session in force was last heard.
        self._heard = 0.0
        self._phase = _Phase.DOWN
        self._welcome: Welcome | None = None
        #: Messages that came while `resume` is not answered. They may be new ones, sent by a server
        #: that had not seen the `resume` yet: to continue behind them would skip what was missed.
        self._replayed: list[Event] = []
        self._last_id = 0
        self._unanswered: dict[int, _Unanswered] = {}
        #: Frames, and ids of requests, in the order in which they are to be written.
        self._outgoing: deque[bytes | int] = deque()
        #: Size and id of the largest request that was written to this socket.
        self._largest = (0, 0)

    @property
    def up(self) -> bool:
        """True while requests are sent."""
        return self._phase is _Phase.UP

    # Requests.

    def request(self, data: object) -> int:
        """Take a request, and give it a number; it is sent as soon as that is possible.

        Raises:
            NotEncodable: for data that has no JSON form.
        """
        self._last_id += 1
        number = self._last_id
        if isinstance(data, bytes | bytearray | memoryview):
            frame = ClientFrame(id=number, binary=bytes(data))
        else:
            frame = ClientFrame(id=number, data=msgspec.Raw(encode_json(data)))
        self._unanswered[number] = _Unanswered(encode(frame))
        if self.up:
            self._outgoing.append(number)
        return number

    def forget(self, number: int) -> None:
        """Forget a request that nobody waits for: do not send it again, and ignore its answer."""
        self._unanswered.pop(number, None)

    def was_written(self, number: int) -> bool:
        """True if a request without an answer may have reached a server."""
        unanswered = self._unanswered.get(number)
        return unanswered is not None and unanswered.session is not None

    @property
    def has_frames(self) -> bool:
        return bool(self._outgoing)

    def next_frame(self) -> bytes | None:
        """Take the next frame to write, which counts as written now; None without a frame."""
        while self._outgoing:
            item = self._outgoing.popleft()
            if isinstance(item, bytes):
                return item
            unanswered = self._unanswered.get(item)
            if unanswered is not None:
                unanswered.session = self.session
                self._largest = max(self._largest, (len(unanswered.frame), item))
                return unanswered.frame
        return None

    # Sockets.

    def opened(self) -> None:
        """Note that a new socket is open: the server's welcome comes next."""
        self._phase = _Phase.GREETING
        self._largest = (0, 0)

    def lost(self) -> None:
        """Note that the socket is gone."""
        self._phase = _Phase.DOWN
        self._outgoing.clear()
        self._replayed.clear()

    def too_large(self) -> list[Event]:
        """Fail the largest request: the server closed the socket over a frame beyond its limit.

        Sent again, the request would close the next socket too.
        """
        size, number = self._largest
        if self._unanswered.pop(number, None) is None:
            return []
        text = f"a request of {size:,} bytes is larger than the server takes"
        return [Failed(number, RequestFailed(text))]

    def expire(self, now: float) -> list[Event]:
        """End the session when the server does not remember it any more."""
        if self.up or self.session is None or now - self._heard <= self._resume:
            return []
        # The server is told of it all the same: it knows whether messages to rooms were missed.
        self._ended, self.session = self.session, None
        return self._unknown()

    # Frames.

    def receive(self, frame: str | bytes, now: float) -> list[Event]:
        """Take a frame of the server, and return the events that follow from it.

        Args:
            frame: one text or binary frame.
            now: seconds of a monotonic clock.

        Raises:
            NoWelcome: when the first frame is not a welcome.
        """
        try:
            decoded = decode_server(frame)
        except ValueError as error:
            if self._phase is _Phase.GREETING:
                raise NoWelcome(f"the first frame is none of the protocol: {error}") from None
            # Maybe the server is newer.
            log.warning("a frame of the server is not understood: %s", error)
            return []
        if self._phase is _Phase.GREETING and not isinstance(decoded, Welcome):
            raise NoWelcome("the first frame is no welcome")
        events = self._receive(decoded, now)
        # What is read after so long a silence may be as old: a process that was stopped must not
        # take the last frame of a dead session for news of it.
        if self.up and now - self._heard <= self._resume:
            self._heard = now
        return events

    def _receive(self, frame: ServerFrame, now: float) -> list[Event]:
        match frame:
            case MessageFrame():
                return self._take(frame)
            case Reply():
                return self._answer(frame.id, lambda number: Answered(number, _content(frame)))
            case ErrorFrame():
                if frame.id is None:
                    log.warning("the server did not understand a frame: %s", frame.error)
                    return []
                return self._answer(
                    frame.id, lambda number: Failed(number, RequestFailed(frame.error))
                )
            case Ping():
                self._outgoing.append(_PONG)
                # While missed messages are replayed, the client is not yet at this offset.
                if isinstance(frame.offset, str) and self.up:
                    self.offset = frame.offset
                return []
            case Welcome():
                return self._begin(frame, now)
            case Resumed():
                epoch = self._welcome.epoch if self._welcome is not None else self.epoch
                return [
                    *self._take_replayed(),
                    *self._continue(frame.session, frame.offset, epoch, now),
                ]
            case Gap():
                return [
                    *self._take_replayed(),
                    Missed(),
                    *self._continue(frame.session, frame.offset, frame.epoch, now),
                ]
            case Reconnect():
                return [Moving(frame.after / 1000)]
            case Pong():
                # It says only that the server is there.
                return []
            case _:
                assert_never(frame)

    def _take(self, frame: MessageFrame) -> list[Event]:
        message = Received(_content(frame))
        if isinstance(frame.offset, str):
            if self._phase is _Phase.RESUMING:
                self._replayed.append(message)
                return []
            self.offset = frame.offset
        return [message]

    def _answer(self, number: object, event: Any) -> list[Event]:
        # An unknown request was forgotten, or is answered a second time.
        known = isinstance(number, int) and self._unanswered.pop(number, None) is not None
        return [event(number)] if known else []

    def _begin(self, welcome: Welcome, now: float) -> list[Event]:
        events = self.expire(now)
        self._welcome = welcome
        self.user = welcome.user
        self.heartbeat = welcome.heartbeat / 1000
        if self.offset is None or self.epoch is None:
            self._resume = welcome.resume / 1000
            self._outgoing.append(_START)
            self.session, self.offset, self.epoch = welcome.session, welcome.offset, welcome.epoch
            return [*events, *self._up(now, same_session=False)]
        self._phase = _Phase.RESUMING
        session = self.session or self._ended or msgspec.UNSET
        resume = ClientFrame(type="resume", session=session, offset=self.offset, epoch=self.epoch)
        self._outgoing.append(encode(resume))
        return events

    def _take_replayed(self) -> list[Event]:
        replayed, self._replayed = self._replayed, []
        return replayed

    def _continue(self, session: str, offset: str, epoch: str | None, now: float) -> list[Event]:
        """Go on at the offset that the server has named."""
        self.offset, self.epoch = offset, epoch
        if self._phase is not _Phase.RESUMING:
            self.session = session
            return []
        assert self._welcome is not None
        self._resume = self._welcome.resume / 1000
        same_session = session == self.session and session != self._welcome.session
        self._ended = None
        self.session = session
        return self._up(now, same_session=same_session)

    def _up(self, now: float, *, same_session: bool) -> list[Event]:
        """Send the requests that wait, and again those without an answer, in order."""
        self._phase = _Phase.UP
        self._heard = now
        events: list[Event] = [] if same_session else self._unknown()
        events += self._unknown(but=self.session)
        self._outgoing.extend(self._unanswered)
        return [*events, Ready()]

    def _unknown(self, but: str | None = None) -> list[Event]:
        """Fail the requests that were written, except those of the session `but`."""
        numbers = [
            number
            for number, unanswered in self._unanswered.items()
            if unanswered.session is not None and unanswered.session != but
        ]
        for number in numbers:
            del self._unanswered[number]
        text = "the session ended before the outcome came: the request may have run, or not"
        return [Failed(number, OutcomeUnknown(text)) for number in numbers]


def _content(frame: MessageFrame | Reply) -> Any:
    """The content of a frame: a JSON value, text or bytes; None when the frame has no content."""
    if isinstance(frame.binary, bytes):
        return frame.binary
    return decode_json(bytes(frame.data)) if isinstance(frame.data, msgspec.Raw) else None

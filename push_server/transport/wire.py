"""The socket of one WebSocket: the only place that reads and writes it."""

import asyncio
import collections
import enum
import itertools
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from push_server.rfc6455.close_frames import INTERNAL_ERROR, close_frame
from push_server.rfc6455.frames import PING_FRAME, pong_frame
from push_server.rfc6455.parser import (
    CloseFrame,
    Event,
    Parser,
    PingFrame,
    Violation,
)
from push_server.transport.pace import Pace
from queue_run.contracts.addresses import counted_as
from queue_run.logs.complaints import Complaints

log = logging.getLogger(__name__)

#: What the kernel buffers for one connection, in bytes. Its own default would hide megabytes of
#: a client that does not read, before this process notices anything.
SEND_BUFFER = 64 * 1024
#: Bytes that are read at once, at most.
READ_SIZE = 64 * 1024
#: Frames that are given to the kernel at once, at most.
FRAMES_AT_ONCE = 64
#: Seconds that the end of a connection may take once it has begun.
CLOSING_TIME = 5.0
#: What a frame that is no message costs of what a client may send: pings and fragments are cheap,
#: yet not free.
FRAME_COST = 1 / 16


_VIOLATION = "%s: closed with %d: %s%s"


class ClientLimits(NamedTuple):
    """The limits of one client."""

    #: Bytes of one message.
    max_message_bytes: int
    #: Bytes that wait for a client, behind one frame of any size.
    max_unsent_bytes: int
    #: Messages per second, for long.
    max_message_rate: float
    #: Logs what clients do wrong, and not too much of it; without it, everything is logged.
    complaints: Complaints | None = None


class Receiver(Protocol):
    """Something that gets what a client sends. `owner` is what the wire belongs to at that time."""

    def inbound(self, owner: Any, data: str | bytes) -> Awaitable[None] | None:
        """Take a message; the result, if there is one, is awaited before the next one is read."""

    def heard(self, owner: Any) -> None:
        """Note that the owner's client lives."""

    def closed(self, owner: Any, code: int | None) -> None:
        """Note that the connection is over.

        Args:
            code: of the close frame that ended it, if any did.
        """


class _Nobody:
    """A receiver that ignores everything, before a wire has another one and after its end."""

    def inbound(self, owner: Any, data: str | bytes) -> None:
        """Drop the message."""

    def heard(self, owner: Any) -> None:
        """Ignore the sign of life."""

    def closed(self, owner: Any, code: int | None) -> None:
        """Ignore the end of the connection."""


_NOBODY = _Nobody()


class WireState(enum.Enum):
    """The states of a wire, in their order. New frames are sent only while it is open."""

    OPEN = enum.auto()
    #: Our close frame is on its way; that of the client is to come.
    CLOSING = enum.auto()
    #: Over for everybody; what waits is still sent, and what comes is thrown away.
    ENDING = enum.auto()
    CLOSED = enum.auto()


# Each look-up in an enumeration costs as much as a call.
_OPEN, _CLOSING, _ENDING, _CLOSED = WireState


class Wire:
    """Reads frames from a socket, and writes whole frames to it.

    A frame goes straight to the socket while nothing is queued; else it waits here, as the same
    object for all connections that it is for. A client that falls further behind than the bound is
    dropped at once: a close frame would only stand behind the jam.

    It reads one message after the other, and none while the receiver of the last one is busy or
    the client sends too fast: TCP pushes back on that client alone. That such a client has gone is
    seen when it is read again, or written to.
    """

    __slots__ = (
        "_first",
        "_limits",
        "_pace",
        "_parser",
        "_paused",
        "_receiver",
        "_socket",
        "_state",
        "_time_limit",
        "_unjammed",
        "_unsent",
        "_waiting",
        "_watched",
        "address",
        "owner",
    )

    def __init__(
        self,
        taken: socket.socket,
        limits: ClientLimits,
        *,
        owner: object,
        first: bytes,
        address: str = "",
    ) -> None:
        """
        Args:
            taken: a connected socket, which does not block.
            owner: whose wire it is; its text is what the log calls it.
            first: is sent before all frames.
            address: where the client is, for the log.
        """
        self._socket = taken
        self._limits = limits
        self._receiver: Receiver = _NOBODY
        self.owner = owner
        self.address = address
        self._state: WireState = _OPEN
        self._parser = Parser(limits.max_message_bytes)
        #: Made when it is first needed, as the queue: most clients send little, and never fall
        #: behind.
        self._pace: Pace | None = None
        self._paused = False
        #: Whether the loop says when something has come.
        self._watched = False
        #: Until the start, everything waits.
        self._waiting: collections.deque[bytes | memoryview] | None = collections.deque([first])
        #: Bytes in the queue, and how many of them belong to the frame that was the first.
        self._unsent = self._first = len(first)
        self._unjammed: asyncio.Event | None = None
        self._time_limit: asyncio.TimerHandle | None = None
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def belong_to(self, receiver: Receiver, owner: object) -> None:
        """Give what the client sends to somebody else."""
        self._receiver = receiver
        self.owner = owner

    def start(self, early: bytes = b"") -> None:
        """Begin to send and to read.

        Args:
            early: what the client has sent before.
        """
        if self._waiting:
            self._send_waiting()
        if self._waiting:
            self._await_room()
        if self._state is not _CLOSED:
            self._watch()
            if early:
                self._take(early)

    @property
    def over(self) -> bool:
        """True when no receiver gets anything from this wire any more."""
        return self._state is _ENDING or self._state is _CLOSED

    # To the client.

    def write(self, frame: bytes) -> None:
        """Send a whole frame, or several, or drop the connection when its client is too far
        behind."""
        if self._state is not _OPEN:
            return
        if self._waiting:
            self._queue(frame)
            return
        try:
            sent = self._socket.send(frame)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lost(error)
            return
        if sent != len(frame):
            self._queue(memoryview(frame)[sent:] if sent else frame)

    def ping(self) -> None:
        """Send a ping frame."""
        self.write(PING_FRAME)

    @property
    def jammed(self) -> bool:
        """True while bytes wait that the kernel did not take."""
        return bool(self._waiting)

    async def unjammed(self) -> None:
        """Wait until no bytes wait any more, or the connection has ended."""
        while self._waiting:
            if self._unjammed is None:
                self._unjammed = asyncio.Event()
            await self._unjammed.wait()

    def _queue(self, rest: bytes | memoryview) -> None:
        size = len(rest)
        if not self._waiting:
            # One message may be larger than the bound: that alone is no sign of a slow client.
            self._first = size
            if self._waiting is None:
                self._waiting = collections.deque()
            self._await_room()
        elif self._unsent - self._first + size > self._limits.max_unsent_bytes:
            bound = self._limits.max_unsent_bytes
            self.abort(f"slow consumer: more than {bound} bytes unsent")
            return
        self._unsent += size
        self._waiting.append(rest)

    def _await_room(self) -> None:
        asyncio.get_running_loop().add_writer(self._socket.fileno(), self._send_waiting)

    def _send_waiting(self) -> None:
        """Give the kernel what it takes of what waits."""
        waiting = self._waiting
        assert waiting
        try:
            sent = self._socket.sendmsg(itertools.islice(waiting, FRAMES_AT_ONCE))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error)
            return
        self._unsent -= sent
        self._first = max(0, self._first - sent)
        while waiting and sent >= len(waiting[0]):
            sent -= len(waiting.popleft())
        if sent:
            waiting[0] = memoryview(waiting[0])[sent:]
        elif not waiting:
            self._all_sent()

    def _all_sent(self) -> None:
        asyncio.get_running_loop().remove_writer(self._socket.fileno())
        self._waiting = None
        self._awake()
        if self._state is _ENDING:
            self._hang_up()

    def _awake(self) -> None:
        if self._unjammed is not None:
            self._unjammed.set()
            self._unjammed = None

    # From the client.

    def _watch(self) -> None:
        self._watched = True
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def _readable(self) -> None:
        if self._paused:
            # What has come waits in the kernel. Most clients send nothing more meanwhile: to watch
            # a socket no more, and then again, costs as much as a short message.
            self._watched = False
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            return
        try:
            data = self._socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error)
            return
        if data:
            self._take(data)
        else:
            self._drop()

    def _take(self, data: bytes) -> None:
        if self._state is not _ENDING:
            self._parser.feed(data)
            self._receiver.heard(self.owner)
            self._go_on()

    def _go_on(self) -> None:
        """Hand on what has come, up to something that is to be waited for."""
        next_event = self._parser.next_event
        try:
            while (event := next_event()) is not None:
                waiting = None
                if type(event) is str or type(event) is bytes:
                    cost = 1.0
                    if self._state is _OPEN:
                        waiting = self._receiver.inbound(self.owner, event)
                else:
                    cost = FRAME_COST
                    self._take_frame(event)
                if self._state is _ENDING or self._state is _CLOSED:
                    return
                now = time.monotonic()
                if self._pace is None:
                    self._pace = Pace(self._limits.max_message_rate, now)
                seconds = self._pace.take(now, cost)
                if seconds or waiting is not None:
                    self._pause(seconds, waiting)
                    return
        except Exception as error:
            self._fail(error)

    def _take_frame(self, event: Event) -> None:
        """Take an event that is no message."""
        if isinstance(event, PingFrame):
            self.write(pong_frame(event.data))
        elif isinstance(event, CloseFrame):
            # Its own code is the answer (5.5.1).
            self._end(event.code)
        elif isinstance(event, Violation):
            line = (self.owner, event.code, event.reason, self._origin())
            if self._limits.complaints is not None:
                # Who breaks the protocol may come again at once.
                about = f"violations of {counted_as(self.address)}"
                self._limits.complaints.tell(about, _VIOLATION, *line)
            else:
                log.info(_VIOLATION, *line)
            self._end(event.code, event.reason)

    def _pause(self, seconds: float, waiting: Awaitable[None] | None) -> None:
        """Read no more for so long, and until what the receiver waits for is there."""
        self._paused = True
        if seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(seconds, self._pause, 0.0, waiting)
        elif waiting is not None:
            asyncio.ensure_future(waiting).add_done_callback(self._waited)
        else:
            self._read_on()

    def _waited(self, waiting: "asyncio.Future[None]") -> None:
        error = None if waiting.cancelled() else waiting.exception()
        if error is not None and not self.over:
            self._fail(error)
        self._read_on()

    def _read_on(self) -> None:
        self._paused = False
        if self._state is not _CLOSED:
            if not self._watched:
                self._watch()
            if self._state is not _ENDING:
                self._go_on()

    # The end.

    def limit(self, seconds: float | None, callback: Callable[..., None], *args: object) -> None:
        """Call something after so many seconds, in place of the last such call; None calls nothing.

        Once the end of the connection has begun, this does nothing: the end has its own limit.
        """
        if self._state is _OPEN:
            self._set_limit(seconds, callback, *args)

    def _set_limit(
        self, seconds: float | None, callback: Callable[..., None], *args: object
    ) -> None:
        if self._time_limit is not None:
            self._time_limit.cancel()
            self._time_limit = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._time_limit = loop.call_later(max(0.0, seconds), callback, *args)

    def close(self, code: int | None, reason: str) -> None:
        """Begin the closing handshake; a client that does not take part in it is dropped."""
        if self._state is not _OPEN:
            return
        frame = close_frame(code, reason)
        if self._waiting:
            # However far behind the client is: nothing follows.
            self._unsent += len(frame)
            self._waiting.append(frame)
        else:
            self.write(frame)
        if self._state is _OPEN:
            self._state = _CLOSING
            self._set_limit(CLOSING_TIME, self._drop)

    def abort(self, why: str) -> None:
        """Drop the connection without a closing handshake."""
        if self._state is not _CLOSED:
            log.warning("%s: dropped: %s%s", self.owner, why, self._origin())
            self._drop()

    def _origin(self) -> str:
        """The client's address as the end of a log line; empty when it is not known."""
        return f" (from {self.address})" if self.address else ""

    def _fail(self, error: BaseException) -> None:
        """End one connection because of a defect of ours; all others go on."""
        log.error("%s: failed", self.owner, exc_info=error)
        self._end(INTERNAL_ERROR, "internal error")

    def _end(self, code: int | None, reason: str = "") -> None:
        """End the connection: the client has closed it, or has sent what cannot be taken."""
        self.close(code, reason)
        if self._state is _CLOSED:
            return
        self._state = _ENDING
        self._over(code)
        self._set_limit(CLOSING_TIME, self._drop)
        if not self._waiting:
            self._hang_up()

    def _hang_up(self) -> None:
        """Show the client that everything is sent, before the socket is closed.

        A socket that is closed while bytes of the client wait in it is reset, and the close frame
        is lost with it.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop()

    def _lost(self, error: OSError) -> None:
        """Drop the connection after an error of its socket: the client has gone."""
        log.debug("%s: %s", self.owner, error)
        self._drop()

    def _drop(self) -> None:
        """Close the socket at once."""
        if self._state is _CLOSED:
            return
        if self._state is not _ENDING:
            self._over(None)
        self._state = _CLOSED
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._waiting = None
        self._set_limit(None, self._drop)
        self._awake()

    def _over(self, code: int | None) -> None:
        """Tell the receiver once that the connection is over; in the loop's next iteration, since
        the receiver may be in the midst of something."""
        asyncio.get_running_loop().call_soon(self._receiver.closed, self.owner, code)
        # Its owner knows this wire: they let go of each other.
        self.belong_to(_NOBODY, str(self.owner))

"""One WebSocket of a client: opening it, writing to it, and seeing when its server has gone."""

import asyncio
import logging
import ssl as tls
from collections.abc import Mapping

from queue_run.client.errors import Rejected
from queue_run.client.protocol import Protocol
from queue_run.contracts.client_frames import SUBPROTOCOL
from queue_run.errors import QueueRunError

try:
    from websockets.asyncio.client import ClientConnection
    from websockets.asyncio.client import connect as connect_websocket
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
    from websockets.protocol import State
    from websockets.typing import Subprotocol
except ImportError as error:
    raise ImportError(
        "queue_run.client needs the package websockets: pip install 'queue-run[client]'"
    ) from error

log = logging.getLogger(__name__)

#: HTTP statuses that another attempt would not change.
REFUSALS = frozenset({401, 403, 404})
#: Close code for a client that is not, or no longer, authorized.
UNAUTHORIZED = 4401
#: Close code for a frame beyond the server's limit (RFC 6455, 7.4.1).
TOO_LARGE = 1009

#: Seconds for one attempt to connect.
OPEN_TIMEOUT = 10.0
#: Seconds that a closing handshake may take.
CLOSE_TIMEOUT = 2.0
#: Seconds in which a process that stood still reads what has come meanwhile.
SECOND_LOOK = 0.1
#: Bytes of one frame: beyond every limit that a server is likely to have.
MAX_FRAME = 64 * 1024 * 1024
#: Frames that wait in the socket's own queue; it is not read while there are more.
MAX_QUEUE = 64

#: The errors of an attempt to connect after which another attempt may succeed.
FAILURES = (OSError, TimeoutError, WebSocketException)


class OtherProtocol(QueueRunError):
    """Raised when the server took the connection, but does not speak the envelope protocol."""


class Lost(QueueRunError):
    """Raised when the socket has ended.

    Args:
        code: of the close frame; 1006 without one.
        reason: of the close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"closed with {self.code} {self.reason}".rstrip()


async def open_socket(
    url: str, headers: Mapping[str, str], ssl: tls.SSLContext | None
) -> ClientConnection:
    """Open a WebSocket to the server.

    Raises:
        Rejected: when the server refuses for good.
        OtherProtocol: when the server does not speak the envelope protocol.
        OSError, TimeoutError, WebSocketException: when the attempt failed otherwise.
    """
    try:
        socket = await connect_websocket(
            url,
            additional_headers=headers,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            # The protocol has pings of its own.
            ping_interval=None,
            open_timeout=OPEN_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            max_size=MAX_FRAME,
            max_queue=MAX_QUEUE,
            ssl=ssl or (True if url.startswith("wss:") else None),
        )
    except InvalidStatus as error:
        status = error.response.status_code
        if status in REFUSALS:
            reason = (error.response.body or b"").decode(errors="replace").strip()
            raise Rejected(status, reason) from error
        raise
    if socket.subprotocol != SUBPROTOCOL:
        socket.transport.abort()
        raise OtherProtocol(f"the server does not speak {SUBPROTOCOL}")
    return socket


class Connection:
    """An open socket.

    Args:
        socket: the WebSocket.
        protocol: gives the frames to write.
        grace: seconds beyond its heartbeat that a server may be silent.
    """

    def __init__(self, socket: ClientConnection, protocol: Protocol, grace: float) -> None:
        self._socket = socket
        self._protocol = protocol
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        self._opened = self._heard = self._loop.time()
        #: The client takes no messages now: silence then says nothing about the server.
        self._paused = False
        self._writing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        #: The server has asked to end the connection, and that time has come.
        self.moved = False
        self._moving: asyncio.TimerHandle | None = None
        #: The server was silent for too long, unless it was this process that stood still.
        self._suspected = False
        # One timer, and not one for each frame: it looks when the server was heard last.
        self._look_again = self._loop.call_later(grace, self._look)

    @property
    def age(self) -> float:
        """Seconds since the connection was opened."""
        return self._loop.time() - self._opened

    async def receive(self) -> bytes:
        """Wait for the next frame, and return it.

        Raises:
            Lost: when the socket has ended.
        """
        try:
            frame = await self._socket.recv(decode=False)
        except ConnectionClosed as error:
            close = error.rcvd
            raise Lost(close.code if close else 1006, close.reason if close else "") from error
        self._heard = self._loop.time()
        return frame

    def pause(self) -> None:
        """Stop counting the server's silence: nobody calls `receive` until `go_on`."""
        self._paused = True

    def go_on(self) -> None:
        self._paused = False
        self._heard = self._loop.time()

    def flush(self) -> None:
        """Write the frames that the protocol has for the server."""
        if self._writing is None and self._protocol.has_frames:
            self._writing = self._loop.create_task(self._write(), name="queue_run.client write")

    async def _write(self) -> None:
        # A socket that has ended takes nothing more: what is left is for the next one.
        try:
            while self._socket.state is State.OPEN:
                frame = self._protocol.next_frame()
                if frame is None:
                    return
                await self._socket.send(frame, text=True)
        except ConnectionClosed as error:
            log.debug("the socket ended while it was written: %s", error)
        except Exception:
            # What could not be written goes out over the next connection, if that can.
            log.exception("writing to the server failed unexpectedly: the client connects again")
            self._socket.transport.abort()
        finally:
            self._writing = None

    def move(self, seconds: float) -> None:
        """End the connection after this number of seconds, since the server has asked for that."""
        if self._moving is None:
            self._moving = self._loop.call_later(seconds, self._move)

    def _move(self) -> None:
        self.moved = True
        self._closing = self._loop.create_task(self._socket.close())

    def _look(self) -> None:
        now = self._loop.time()
        limit = self._protocol.heartbeat + self._grace
        silent = 0.0 if self._paused else now - self._heard
        if silent < limit:
            self._suspected = False
            self._look_again = self._loop.call_later(limit - silent, self._look)
        elif not self._suspected:
            self._suspected = True
            self._look_again = self._loop.call_later(SECOND_LOOK, self._look)
        else:
            log.info("nothing was heard of the server for %.1f seconds: it has gone", silent)
            self._socket.transport.abort()

    async def close(self) -> None:
        """End the connection with a closing handshake."""
        await self._socket.close()

    def discard(self) -> None:
        """Drop the connection at once, in whatever state it is."""
        self._look_again.cancel()
        if self._moving is not None:
            self._moving.cancel()
        if self._writing is not None:
            self._writing.cancel()
        self._socket.transport.abort()

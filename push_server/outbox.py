"""One connection's outgoing bytes: the only place that touches Tornado's stream."""

import asyncio
import collections
import contextlib
import logging
import socket

from tornado.iostream import IOStream, SSLIOStream, StreamBufferFullError, StreamClosedError

log = logging.getLogger(__name__)

#: What the kernel buffers for one connection, in bytes. Its own default would hide megabytes of
#: a client that does not read, before this process notices anything.
SEND_BUFFER = 64 * 1024
#: Frames that are handed to the stream together, in bytes, about.
CHUNK = 64 * 1024


class Outbox:
    """Writes whole frames to a stream, up to a bound of bytes behind one that is being sent.

    A frame goes straight to the socket while nothing is queued, which costs a sixth of Tornado's
    `write_message`; else it waits here, as the same object for all connections that it is for. A
    client that falls further behind than the bound is dropped at once: a close frame would only
    stand behind the jam.
    """

    __slots__ = ("_direct", "_first", "_max_bytes", "_stream", "_unsent", "_waiting", "name")

    def __init__(self, stream: IOStream, name: str, *, max_bytes: int) -> None:
        self._stream = stream
        #: Of the connection, for the log.
        self.name = name
        self._max_bytes = max_bytes
        #: Made when it is first needed: most clients never fall behind.
        self._waiting: collections.deque[bytes] | None = None
        #: Bytes that wait here, or are with the stream; and the frame that was the first of them.
        self._unsent = 0
        self._first = 0
        # TLS must see every byte in its own order.
        self._direct = not isinstance(stream, SSLIOStream)
        # For what does not come from here: pings and close frames.
        stream.max_write_buffer_size = 2 * max_bytes
        stream.set_nodelay(True)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def write(self, frame: bytes) -> None:
        """Send a whole frame, or drop the connection when its client is too far behind."""
        stream = self._stream
        if stream.closed():
            return
        if self._waiting or stream.writing():
            self._queue(frame)
            return
        sent = 0
        if self._direct:
            try:
                sent = stream.socket.send(frame)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                log.debug("%s: %s", self.name, error)
                stream.close()
                return
            if sent == len(frame):
                return
        self._queue(frame[sent:] if sent else frame)

    @property
    def jammed(self) -> bool:
        """Whether bytes wait that the kernel did not take."""
        return bool(self._waiting) or self._stream.writing()

    async def drained(self) -> None:
        """Wait until none do, or the stream is closed."""
        with contextlib.suppress(StreamClosedError):
            while self.jammed:
                await self._stream.write(b"")
                # What waits here follows in a callback.
                await asyncio.sleep(0)

    def flush(self) -> None:
        """Hand everything that waits to the stream: what is written to that follows."""
        if self._waiting:
            frames = b"".join(self._waiting)
            self._waiting.clear()
            self._hand_over(frames)

    def _queue(self, rest: bytes) -> None:
        if not self._unsent:
            # One message may be larger than the bound: that alone is no sign of a slow client.
            self._first = len(rest)
            self._stream.max_write_buffer_size = 2 * self._max_bytes + len(rest)
        elif self._unsent - self._first + len(rest) > self._max_bytes:
            self.abort(f"slow consumer: more than {self._max_bytes} bytes unsent")
            return
        self._unsent += len(rest)
        if self._stream.writing():
            if self._waiting is None:
                self._waiting = collections.deque()
            self._waiting.append(rest)
        else:
            self._hand_over(rest)

    def _hand_over(self, data: bytes) -> None:
        try:
            written = self._stream.write(data)
        except (StreamClosedError, StreamBufferFullError) as error:
            log.debug("%s: closed while a message was on its way: %s", self.name, error)
            self._stream.close()
            return
        written.add_done_callback(lambda future: self._written(future, len(data)))

    def _written(self, future: "asyncio.Future[None]", size: int) -> None:
        """The stream has sent what it was given: the next of what waits."""
        if future.cancelled() or future.exception() is not None:
            return
        self._unsent -= size
        self._first = 0
        waiting = self._waiting
        if not waiting:
            return
        chunk = []
        room = CHUNK
        while waiting and room > 0:
            chunk.append(waiting.popleft())
            room -= len(chunk[-1])
        self._hand_over(b"".join(chunk))

    def discard(self) -> None:
        """The connection is over: nothing that is left is sent."""
        self._waiting = None
        self._stream.close()

    def abort(self, why: str) -> None:
        """Drop the connection without a closing handshake."""
        if not self._stream.closed():
            log.warning("%s: dropped: %s", self.name, why)
            self.discard()

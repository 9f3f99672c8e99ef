"""One connection's outgoing bytes: the only place that touches Tornado's stream."""

import logging
import socket

from tornado.iostream import IOStream, SSLIOStream, StreamBufferFullError, StreamClosedError

log = logging.getLogger(__name__)

#: What the kernel buffers for one connection, in bytes. Its own default would hide megabytes of
#: a client that does not read, before this process notices anything.
SEND_BUFFER = 64 * 1024


class Outbox:
    """Writes whole frames to a stream, up to a bound of unsent bytes.

    A frame goes straight to the socket while nothing is queued, which costs a sixth of Tornado's
    `write_message`; else it is queued. A client that falls further behind than the bound is
    dropped at once: a close frame would only stand behind the jam.
    """

    __slots__ = ("_direct", "_name", "_stream")

    def __init__(self, stream: IOStream, name: str, *, max_bytes: int) -> None:
        self._stream = stream
        self._name = name
        # TLS must see every byte in its own order.
        self._direct = not isinstance(stream, SSLIOStream)
        stream.max_write_buffer_size = max_bytes
        stream.set_nodelay(True)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def write(self, frame: bytes) -> None:
        """Send a whole frame, or drop the connection when its client is too far behind."""
        stream = self._stream
        if stream.closed():
            return
        sent = 0
        if self._direct and not stream.writing():
            try:
                sent = stream.socket.send(frame)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                log.debug("%s: %s", self._name, error)
                stream.close()
                return
            if sent == len(frame):
                return
        self._queue(frame[sent:] if sent else frame)

    def _queue(self, rest: bytes) -> None:
        try:
            self._stream.write(rest)
        except StreamBufferFullError:
            self.abort(
                f"slow consumer: more than {self._stream.max_write_buffer_size} bytes unsent"
            )
        except StreamClosedError:
            log.debug("%s: closed while a message was on its way", self._name)

    def discard(self) -> None:
        """The connection is over: nothing that is left is sent."""
        self._stream.close()

    def abort(self, why: str) -> None:
        """Drop the connection without a closing handshake."""
        if not self._stream.closed():
            log.warning("%s: dropped: %s", self._name, why)
            self._stream.close()

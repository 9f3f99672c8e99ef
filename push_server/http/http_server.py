"""Tornado's HTTP server, with an answer for a head that is too large: Tornado only hangs up."""

import asyncio
import socket
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, UnsatisfiableReadError

#: Seconds in which a client that has been answered may stop sending.
PATIENCE = 2.0
#: Bytes that are read of it meanwhile, at most.
DISCARDED = 1024 * 1024
_TEXT = b"the request line and the headers are too large\n"
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b" % (len(_TEXT), _TEXT)
)


class Server(HTTPServer):
    """An HTTP server whose streams know what they read."""

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        # Tornado makes them of its own class; to make each anew would be felt in every handshake.
        stream.__class__ = _HttpStream
        super().handle_stream(stream, address)


class _HttpStream(IOStream):
    """Answers a head that is too large before it is closed."""

    #: Whether it reads a head, and no body.
    _in_head = False

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Any:
        self._in_head = True
        return super().read_until_regex(regex, max_bytes)

    def read_until(self, delimiter: bytes, max_bytes: int | None = None) -> Any:
        self._in_head = False
        return super().read_until(delimiter, max_bytes)

    def close(self, exc_info: Any = False) -> None:
        too_large = self._in_head and isinstance(exc_info, UnsatisfiableReadError)
        # What waits to be sent is the answer to an earlier request: this one cannot pass it.
        if too_large and not self.closed() and not self.writing():
            _Farewell(self.socket.dup()).say(TOO_LARGE)
        super().close(exc_info)


class _Farewell:
    """The last that a client hears. It may still be sending: were its socket closed on unread
    bytes, these would take the answer with them."""

    def __init__(self, taken: socket.socket) -> None:
        self._socket = taken
        self._left = DISCARDED

    def say(self, answer: bytes) -> None:
        try:
            self._socket.send(answer)
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._socket.close()
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._discard)
        loop.call_later(PATIENCE, self._end)

    def _discard(self) -> None:
        try:
            got = len(self._socket.recv(65_536))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            got = 0
        self._left -= got
        if not got or self._left < 0:
            self._end()

    def _end(self) -> None:
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()

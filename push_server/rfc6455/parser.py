"""The parser of a client's bytes (RFC 6455, section 5): bytes in, events out. Pure.

The parser never raises for what a client sends: a violation is an event too, the last one.
"""

import codecs
from typing import NamedTuple, TypeAlias

# In C where Tornado was built with it; slow elsewhere.
from tornado.util import _websocket_mask as unmask

from push_server.rfc6455.close_frames import (
    INVALID_DATA,
    PROTOCOL_ERROR,
    TOO_BIG,
    close_error,
)


class PingFrame(NamedTuple):
    data: bytes


class PongFrame(NamedTuple):
    """The client lives."""


class Fragment(NamedTuple):
    """A frame that is not the last one of its message."""


class CloseFrame(NamedTuple):
    """The client closes, in good order; None without a code."""

    code: int | None


class Violation(NamedTuple):
    """The client does not keep to the protocol, or to the limit: nothing follows."""

    #: To close with.
    code: int
    reason: str


#: A text is a text message, bytes are a binary one.
Event: TypeAlias = str | bytes | PingFrame | PongFrame | Fragment | CloseFrame | Violation

_FINAL = 0x80
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL_TEXT, _FINAL_BINARY = _FINAL | _TEXT, _FINAL | _BINARY
#: The bytes that a frame may begin with: no reserved bits, no reserved opcodes, and control frames
#: in one piece.
_FIRST = frozenset(
    {
        _CONTINUATION,
        _TEXT,
        _BINARY,
        _FINAL | _CONTINUATION,
        _FINAL_TEXT,
        _FINAL_BINARY,
        _FINAL | _CLOSE,
        _FINAL | _PING,
        _FINAL | _PONG,
    }
)
_FIRST_CONTROL = _FINAL | _CLOSE
_MASKED = 0x80
_MASK_SIZE = 4
_PONG_EVENT, _FRAGMENT_EVENT = PongFrame(), Fragment()


class Parser:
    """The incoming side of one connection.

    What was fed is parsed as events are asked for: a client that is not to be read for now costs
    the bytes that it has sent, and no more.
    """

    __slots__ = ("_at", "_begun", "_data", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        """
        Args:
            max_bytes: of a message, all its fragments together.
        """
        self._max_bytes = max_bytes
        #: What has been fed, and how far it is parsed.
        self._data: bytes | bytearray = b""
        self._at = 0
        #: The message whose fragments come in.
        self._begun: _Fragments | None = None

    def feed(self, data: bytes) -> None:
        """Take in what the client has sent."""
        if not self._data:
            self._data = data
        elif isinstance(self._data, bytearray):
            self._data += data
        else:
            self._data = bytearray(self._data)
            self._data += data

    def next_event(self) -> Event | None:
        """Parse the next event; None when more bytes must be fed first."""
        data, at = self._data, self._at
        available = len(data) - at
        if available < 2:
            self._keep_rest()
            return None
        first, second = data[at], data[at + 1]
        if first not in _FIRST:
            return _violation(_what_is_wrong(first))
        if second < _MASKED:
            return _violation("frames of clients are masked")
        size = second - _MASKED
        at += 2
        if size > 125:
            if first >= _FIRST_CONTROL:
                return _violation("a control frame has 125 bytes at most")
            # Two or eight bytes more (5.2).
            width = 2 if size == 126 else 8
            if available < 2 + width:
                self._keep_rest()
                return None
            size = int.from_bytes(data[at : at + width], "big")
            at += width
            if size >> 63:
                return _violation("a length has 63 bits at most")
        if first < _FIRST_CONTROL:
            begun = self._begun
            if (begun is None) is (first & 0xF == _CONTINUATION):
                return _violation(
                    "nothing to continue" if begun is None else "a message within another"
                )
            if size + (0 if begun is None else len(begun.data)) > self._max_bytes:
                return _violation(f"a message has {self._max_bytes} bytes at most", TOO_BIG)
        start = at + _MASK_SIZE
        end = start + size
        if end > len(data):
            self._keep_rest()
            return None
        if isinstance(data, bytes):
            payload = unmask(data[at:start], data[start:end])
        else:
            payload = unmask(bytes(data[at:start]), bytes(memoryview(data)[start:end]))
        self._at = end
        if first == _FINAL_TEXT:
            try:
                return payload.decode()
            except UnicodeDecodeError:
                return _violation("text that is not UTF-8", INVALID_DATA)
        if first == _FINAL_BINARY:
            return payload
        return self._other(first, payload)

    def _other(self, first: int, payload: bytes) -> Event:
        """The event of a frame that is no message in one piece."""
        if first == _FINAL | _PING:
            return PingFrame(payload)
        if first == _FINAL | _PONG:
            return _PONG_EVENT
        if first == _FINAL | _CLOSE:
            code = close_error(payload)
            if code is not None:
                return _violation("a malformed close frame", code)
            return CloseFrame(int.from_bytes(payload[:2], "big") if payload else None)
        if self._begun is None:
            self._begun = _Fragments(is_text=first == _TEXT)
        begun = self._begun
        final = first >= _FINAL
        try:
            begun.add(payload, final=final)
        except UnicodeDecodeError:
            return _violation("text that is not UTF-8", INVALID_DATA)
        if not final:
            return _FRAGMENT_EVENT
        self._begun = None
        return begun.message()

    def _keep_rest(self) -> None:
        """Keep the frame that is not whole yet, and nothing else."""
        if self._at:
            self._data = self._data[self._at :] or b""
            self._at = 0


class _Fragments:
    """A message that comes in several frames."""

    __slots__ = ("_decoder", "data")

    def __init__(self, *, is_text: bool) -> None:
        self.data = bytearray()
        # A text is checked as it comes: what is wrong is told at once (8.1).
        self._decoder = codecs.getincrementaldecoder("utf-8")() if is_text else None

    def add(self, payload: bytes, *, final: bool) -> None:
        """
        Raises:
            UnicodeDecodeError: when this makes a text invalid.
        """
        if self._decoder is not None:
            self._decoder.decode(payload, final)
        self.data += payload

    def message(self) -> str | bytes:
        return bytes(self.data) if self._decoder is None else self.data.decode()


def _violation(reason: str, code: int = PROTOCOL_ERROR) -> Violation:
    return Violation(code, reason)


def _what_is_wrong(first: int) -> str:
    """Say why no frame may begin with this byte."""
    if first & 0x70:
        return "reserved bits are set"
    if first & 0xF not in (_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG):
        return "a reserved opcode"
    return "a control frame is not fragmented"

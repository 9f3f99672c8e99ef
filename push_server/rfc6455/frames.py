"""WebSocket frames (RFC 6455, 5.2), unmasked: the same bytes for every client."""

import struct

#: First bytes of messages in one frame.
TEXT = 0x80 | 0x1
BINARY = 0x80 | 0x2
_CLOSE = 0x80 | 0x8
_PING = 0x80 | 0x9
_PONG = 0x80 | 0xA


def text_frame(data: bytes) -> bytes:
    """UTF-8 as one text frame."""
    return frame(TEXT, data)


def pong_frame(data: bytes) -> bytes:
    """The answer to a ping with this data, of 125 bytes at most."""
    return frame(_PONG, data)


def close_frame_of(payload: bytes) -> bytes:
    """A close frame with this payload, of 125 bytes at most."""
    return frame(_CLOSE, payload)


def frame(first: int, data: bytes) -> bytes:
    """A frame that begins with this byte."""
    size = len(data)
    if size < 126:
        return bytes((first, size)) + data
    if size <= 0xFFFF:
        return struct.pack("!BBH", first, 126, size) + data
    return struct.pack("!BBQ", first, 127, size) + data


PING_FRAME = frame(_PING, b"")

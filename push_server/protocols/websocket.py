"""WebSocket frames (RFC 6455, 5.2), unmasked: the same bytes for every client."""

import struct

_FINAL_TEXT = 0x80 | 0x1
_FINAL_BINARY = 0x80 | 0x2


def text_frame(data: bytes) -> bytes:
    """UTF-8 as one text frame."""
    return _frame(_FINAL_TEXT, data)


def binary_frame(data: bytes) -> bytes:
    return _frame(_FINAL_BINARY, data)


def _frame(first: int, data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        return struct.pack("!BB", first, size) + data
    if size <= 0xFFFF:
        return struct.pack("!BBH", first, 126, size) + data
    return struct.pack("!BBQ", first, 127, size) + data

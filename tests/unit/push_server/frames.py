"""Frames of clients, for tests: masked (RFC 6455, 5.3)."""

import struct

MASK = b"\x01\x02\x03\x04"


def client_frame(
    data: str | bytes, *, opcode: int | None = None, final: bool = True, mask: bytes = MASK
) -> bytes:
    """One frame; that of a message of its kind, unless the opcode says another."""
    if opcode is None:
        opcode = 1 if isinstance(data, str) else 2
    payload = data.encode() if isinstance(data, str) else data
    size = len(payload)
    first = (0x80 if final else 0) | opcode
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size <= 0xFFFF:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def client_close(code: int | None, reason: str = "") -> bytes:
    payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
    return client_frame(payload, opcode=8)

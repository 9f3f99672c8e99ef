"""Close frames by the letter of RFC 6455 (5.5.1, 7.4)."""

import struct

from push_server.rfc6455.frames import close_frame_of

PROTOCOL_ERROR, INVALID_DATA, TOO_BIG, INTERNAL_ERROR = 1002, 1007, 1009, 1011
#: Codes below 3000 that an endpoint may send (7.4.1 and the IANA registry).
_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
#: A control frame has room for 125 bytes (5.5), two of them the code.
_MAX_REASON = 123


def close_frame(code: int | None, reason: str = "") -> bytes:
    """A close frame; a reason that is too long is cut."""
    if code is None:
        return close_frame_of(b"")
    text = reason.encode()[:_MAX_REASON].decode(errors="ignore")
    return close_frame_of(struct.pack("!H", code) + text.encode())


def close_error(payload: bytes) -> int | None:
    """The code to answer a close frame's payload with; None when there is nothing wrong with it."""
    if not payload:
        return None
    if len(payload) == 1:
        return PROTOCOL_ERROR
    (code,) = struct.unpack("!H", payload[:2])
    if code not in _REGISTERED and not 3000 <= code <= 4999:
        return PROTOCOL_ERROR
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return INVALID_DATA
    return None

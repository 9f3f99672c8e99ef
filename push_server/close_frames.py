"""Close frames by the letter of RFC 6455, where Tornado echoes whatever came."""

import asyncio
import struct

from tornado.websocket import WebSocketProtocol13

_CLOSE = 0x8
PROTOCOL_ERROR, INVALID_DATA = 1002, 1007
#: Codes below 3000 that an endpoint may send (7.4.1 and the IANA registry).
_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class StrictProtocol(WebSocketProtocol13):
    """Tornado's protocol, which answers a malformed close frame with the code that it deserves."""

    def _handle_message(self, opcode: int, data: bytes) -> "asyncio.Future[None] | None":
        code = close_error(data) if opcode == _CLOSE else None
        if code is None or self.client_terminated:
            return super()._handle_message(opcode, data)
        self.client_terminated = True
        self.close_code = code
        self.close(code)
        return None


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

"""What a client speaks: frames in and out.

Pure. The plain protocol: a frame is exactly what the handler gets, a message is exactly what the
client gets. Any WebSocket client speaks it.
"""

import struct

from queue_run.envelopes import Inbound, Outcome
from queue_run.ids import RequestId
from queue_run.messages import Message, error_message

_FINAL_TEXT = 0x80 | 0x1
_FINAL_BINARY = 0x80 | 0x2


def inbound(request: RequestId, data: str | bytes) -> Inbound:
    """The request that a client's frame makes."""
    if isinstance(data, str):
        return Inbound(id=request, text=data)
    return Inbound(id=request, binary=data)


def message_frame(message: Message) -> bytes:
    """A message as one unmasked frame (RFC 6455, 5.2): the same bytes for every client."""
    first = _FINAL_BINARY if message.is_binary else _FINAL_TEXT
    size = len(message.data)
    if size < 126:
        return struct.pack("!BB", first, size) + message.data
    if size <= 0xFFFF:
        return struct.pack("!BBH", first, 126, size) + message.data
    return struct.pack("!BBQ", first, 127, size) + message.data


def error_frame(text: str) -> bytes:
    """How a client learns that its request has failed."""
    return message_frame(error_message(text))


def outcome_frame(outcome: Outcome) -> bytes | None:
    """What the client gets for its request; None when the handler returned nothing."""
    if outcome.error is not None:
        return error_frame(outcome.error)
    return message_frame(outcome.reply) if outcome.reply is not None else None

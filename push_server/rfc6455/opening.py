"""The opening handshake (RFC 6455, 4.2): headers in, answer out. Pure."""

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

from tornado.httputil import HTTPHeaders

from queue_run.contracts import client_frames

#: What every server adds to the key of a client (1.3).
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: The version of the protocol.
VERSION = "13"
#: What may be the name of a subprotocol (RFC 9110, 5.6.2).
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: "
)


class Fault(NamedTuple):
    """The reason for which a request opens no WebSocket: an HTTP status, and a line of text."""

    status: int
    text: str


def asks_for_websocket(headers: HTTPHeaders) -> bool:
    """Tell whether a request wants to become a WebSocket."""
    return "websocket" in _tokens(headers.get("Upgrade", ""))


def fault(method: str, version: str, headers: HTTPHeaders) -> Fault | None:
    """Find what is wrong with an opening handshake; None when nothing is."""
    if not asks_for_websocket(headers):
        return Fault(426, "this address speaks WebSocket")
    if method != "GET":
        return Fault(405, "a WebSocket is opened with GET")
    if version != "HTTP/1.1":
        return Fault(400, "a WebSocket is opened with HTTP/1.1")
    if "upgrade" not in _tokens(headers.get("Connection", "")):
        return Fault(400, "the header Connection does not say Upgrade: a proxy may have dropped it")
    if headers.get("Sec-WebSocket-Version") != VERSION:
        return Fault(426, "this server speaks version 13 of the WebSocket protocol")
    if not _is_key(headers.get("Sec-WebSocket-Key", "")):
        return Fault(400, "the header Sec-WebSocket-Key is no 16 bytes as base64")
    return None


def subprotocol(headers: HTTPHeaders) -> str | None:
    """Choose the envelope protocol where it is offered; else the first name that is not a client's
    token, since browsers insist on an answer."""
    header = headers.get("Sec-WebSocket-Protocol")
    if header is None:
        return None
    names = [name.strip() for name in header.split(",")]
    if client_frames.SUBPROTOCOL in names:
        return client_frames.SUBPROTOCOL
    return next(
        (name for name in names if _NAME.fullmatch(name) and not name.startswith("bearer.")), None
    )


def answer(headers: HTTPHeaders, chosen: str | None) -> bytes:
    """The response that opens the WebSocket; no extension is agreed on."""
    key = headers["Sec-WebSocket-Key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())
    if chosen is None:
        return b"%b%b\r\n\r\n" % (_ANSWER, accept)
    return b"%b%b\r\nSec-WebSocket-Protocol: %b\r\n\r\n" % (_ANSWER, accept, chosen.encode())


def _tokens(header: str) -> list[str]:
    return [token.strip() for token in header.lower().split(",")]


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False

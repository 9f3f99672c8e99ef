"""Who connects, in every way that a client can say so; and a record of all messages."""

import asyncio
from typing import Any

from queue_run import (
    AskToken,
    ConnectionRequest,
    Refuse,
    Request,
    SentMessage,
    expire_connection,
    socket,
)
from tests.apps.document.sockets import _record

FILE = "sockets/_middleware.py"


async def on_authenticate(request: ConnectionRequest) -> Any:
    if request.query.get("mark"):
        _record.note("on_authenticate", FILE, request.query["mark"])
    if (request.bearer_token or "").startswith("good-slow"):
        await asyncio.sleep(0.3)
    if "way" in request.query or request.bearer_token:
        return by_way(request)
    name = request.query.get("user")
    return {"id": name, "tags": ["x"]} if name else None


def by_way(request: ConnectionRequest) -> Any:
    match request.query.get("way"):
        case "first-message" if request.bearer_token is None:
            raise AskToken
        case "asks-again":
            raise AskToken
        case "raises":
            raise Refuse(int(request.query["status"]), "raised")
        case "returns":
            return Refuse(int(request.query["status"]), "returned")
        case "fails":
            raise RuntimeError("a secret of the application")
        case "without-id":
            return {"name": "ann"}
        case "int":
            return {"id": 7}
        case "address":
            return {"id": "someone", "address": request.remote_ip}
        case "expires":
            expire_connection(float(request.query["at"]))
            return {"id": "guest"}
    return by_token(request.bearer_token)


def by_token(token: str | None) -> Any:
    kind, _, name = (token or "").partition("-")
    if kind == "good" and name:
        return {"id": name}
    if kind == "broken":
        raise RuntimeError("a secret of the application")
    raise Refuse(401, "wrong token")


async def on_message_received(request: Request) -> None:
    _record.received(FILE, request)


async def on_message_sent(message: SentMessage) -> None:
    _record.sent(FILE, message)
    if isinstance(message.data, dict) and message.data.get("wanted") == "a failing on_message_sent":
        raise RuntimeError(f"broken by {message.data['mark']}")


async def on_error(error: BaseException, request: Request | ConnectionRequest | None) -> None:
    _record.failed(FILE, error, request)
    if isinstance(request, Request) and isinstance(request.data, dict):
        tell = request.data.get("tell on error")
        if tell:
            await socket.send(tell)

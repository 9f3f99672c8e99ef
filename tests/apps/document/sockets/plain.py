"""A plain handler; its middleware is plain functions, and one that only looks like one."""

import functools
from collections.abc import Callable
from typing import Any

from queue_run import Request, SentMessage, socket
from tests.apps.document.sockets import _record

FILE = "sockets/plain.py"


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    return call


@decorated
async def on_message_received(request: Request) -> None:
    _record.received(FILE, request)


def on_message_sent(message: SentMessage) -> None:
    _record.sent(FILE, message)


def handler(data: dict[str, Any]) -> Any:
    socket.send(data["send"])
    return data["reply"]

"""Has middleware of its own: plain functions and asynchronous ones."""

from typing import Any

from queue_run import Request, SentMessage
from tests.apps.document.sockets import _record
from tests.apps.document.sockets._actions import act

FILE = "sockets/own.py"


def on_message_received(request: Request) -> None:
    _record.received(FILE, request)


async def on_message_sent(message: SentMessage) -> None:
    _record.sent(FILE, message)


def on_error(error: BaseException, request: Request | None) -> None:
    _record.failed(FILE, error, request)


async def handler(data: dict[str, Any]) -> Any:
    return await act(data)

"""Middleware of this folder."""

from queue_run import Request, SentMessage
from tests.apps.document.sockets import _record

FILE = "sockets/folder/_middleware.py"


async def on_message_received(request: Request) -> None:
    _record.received(FILE, request)


async def on_message_sent(message: SentMessage) -> None:
    _record.sent(FILE, message)


async def on_error(error: BaseException, request: Request | None) -> None:
    _record.failed(FILE, error, request)

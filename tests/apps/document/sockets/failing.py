"""All of its middleware fails, in each way that code can."""

import asyncio
import sys
from typing import Any

from queue_run import ClientError, Request, SentMessage
from tests.apps.document.sockets import _record
from tests.apps.document.sockets._actions import act

FILE = "sockets/failing.py"


async def on_message_received(request: Request) -> None:
    if request.data.get("received") == "tell":
        raise ClientError("not at this hour")
    if request.data.get("received") == "fail":
        raise RuntimeError("on_message_received is broken")


async def on_message_sent(message: SentMessage) -> None:
    way = message.data.get("sent") if isinstance(message.data, dict) else None
    if way == "exit":
        sys.exit(3)
    if way == "cancel":
        raise asyncio.CancelledError
    raise RuntimeError("on_message_sent is broken")


async def on_error(error: BaseException, request: Request | None) -> None:
    _record.failed(FILE, error, request)
    if "exit" in str(error):
        sys.exit(3)
    raise RuntimeError("on_error is broken")


async def handler(data: dict[str, Any]) -> Any:
    return await act(data)

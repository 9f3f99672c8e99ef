"""Leaves its middleware to its folder, but for one."""

from typing import Any

from queue_run import Request
from tests.apps.document.sockets import _record
from tests.apps.document.sockets._actions import act


async def on_message_received(request: Request) -> None:
    _record.received("sockets/folder/file.py", request)


async def handler(data: dict[str, Any]) -> Any:
    return await act(data)

"""Without middleware, though its folder has some."""

from typing import Any

from tests.apps.document.sockets._actions import act

on_message_received = None
on_message_sent = None
on_error = None


async def handler(data: dict[str, Any]) -> Any:
    return await act(data)

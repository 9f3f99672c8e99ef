"""Wraps the default middleware."""

from typing import Any

from queue_run import Request, middleware
from queue_run.middleware import log_message_sent as on_message_sent
from tests.apps.document.sockets._actions import act

__all__ = ["on_message_sent"]


async def on_message_received(request: Request) -> None:
    if "password" not in request.data:
        middleware.log_message_received(request)


def on_error(error: BaseException, request: Request | None) -> None:
    if "expected" not in str(error):
        middleware.log_error(error, request)


async def handler(data: dict[str, Any]) -> Any:
    return await act(data)

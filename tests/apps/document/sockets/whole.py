"""Takes the whole request."""

from typing import Any

from queue_run import Request


async def handler(request: Request) -> dict[str, Any]:
    return {
        "connection": request.connection,
        "data": request.data,
        "request_id": request.request_id,
        "user": request.user,
    }

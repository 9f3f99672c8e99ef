"""Answers with what it was given by name."""

from typing import Any


async def handler(connection: str, data: Any, request_id: str, user: Any) -> dict[str, Any]:
    return {
        "connection": connection,
        "data": f"{len(data)} bytes" if isinstance(data, bytes) else data,
        "type": type(data).__name__,
        "request_id": request_id,
        "user": user,
    }

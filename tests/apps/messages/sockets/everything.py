"""Answers with all that a handler may ask for."""

from typing import Any

from queue_run import Request, Signal

path = "/rooms/{room}/everything"


async def handler(
    connection: str,
    data: Any,
    request_id: str,
    user: Any,
    path: str,
    params: dict[str, str],
    signal: Signal,
    request: Request,
) -> dict[str, Any]:
    return {
        "connection": connection,
        "data": data,
        "request_id": request_id,
        "user": user,
        "path": path,
        "params": params,
        "signal": signal.is_set(),
        "query": request.query,
    }

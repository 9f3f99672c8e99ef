"""A user is whoever the token names; without a token, nobody."""

import os
from typing import Any

import redis.asyncio

from queue_run import ConnectionRequest, Request

records = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"])
RUNS = f"{os.environ['QUEUE_RUN_NAMESPACE']}:runs"


async def on_authenticate(request: ConnectionRequest) -> dict[str, Any] | None:
    return {"id": request.bearer_token} if request.bearer_token else None


async def on_message_received(request: Request) -> None:
    """Note that the handler runs."""
    await records.rpush(RUNS, str(request.data.get("name", "")))

"""A user is whoever the token names; who comes and goes is written down in Redis."""

import os
from typing import Any

import redis.asyncio

from queue_run import ConnectionRequest, Refuse

# Bounded: when many users come at once, that must not look like descriptors that are left open.
records = redis.asyncio.Redis.from_pool(
    redis.asyncio.BlockingConnectionPool.from_url(
        os.environ["LAB_REDIS_URL"], max_connections=8, timeout=None
    )
)
NAMESPACE = os.environ["QUEUE_RUN_NAMESPACE"]


async def on_authenticate(request: ConnectionRequest) -> dict[str, Any]:
    if not request.bearer_token:
        raise Refuse(401, "a token is the name of a user")
    return {"id": request.bearer_token}


async def on_online(user_id: str) -> None:
    await records.rpush(f"{NAMESPACE}:lab:presence:{user_id}", "online")


async def on_offline(user_id: str) -> None:
    await records.rpush(f"{NAMESPACE}:lab:presence:{user_id}", "offline")


#: A line for each message would be most of the work.
on_message_received = None

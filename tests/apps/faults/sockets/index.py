"""Answers a request with its own number, and counts how often each was run."""

import asyncio
import os
from typing import Any

import redis.asyncio

from queue_run import socket

runs = redis.asyncio.Redis.from_pool(
    redis.asyncio.BlockingConnectionPool.from_url(
        os.environ["LAB_REDIS_URL"], max_connections=8, timeout=None
    )
)
RUNS = f"{os.environ['QUEUE_RUN_NAMESPACE']}:lab:runs"


async def handler(data: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
    if "count" in data:
        await runs.hincrby(RUNS, f"{user['id']} {data['number']}", 1)
    if "join" in data:
        await socket.join(data["join"])
    await asyncio.sleep(data.get("takes", 0))
    return {"number": data["number"], "user": user["id"]}

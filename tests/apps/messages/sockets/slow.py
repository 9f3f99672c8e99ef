"""Answers after the time that it is given, and keeps a record of having run."""

import asyncio
from typing import Any

import redis.asyncio

from queue_run.process import runtime


async def handler(data: dict[str, Any], request_id: str) -> dict[str, Any]:
    here = runtime.current()
    async with redis.asyncio.Redis.from_url(here.settings.redis_url) as client:
        await client.rpush(f"{here.settings.namespace}:ran", f"{data['client']}:{data['n']}")
    await asyncio.sleep(data["seconds"])
    return {"n": data["n"]}

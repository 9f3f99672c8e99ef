"""Does as it is told."""

import asyncio
import os
import uuid
from typing import Any

import redis.asyncio

from queue_run import queues, socket

records = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"])
NAMESPACE = os.environ["QUEUE_RUN_NAMESPACE"]


async def handler(data: dict[str, Any]) -> Any:
    if "sleep" in data:
        await asyncio.sleep(data["sleep"])
    if "steps" in data:
        await records.blpop([f"{NAMESPACE}:go:{data['name']}"], 30)
        for step in data["steps"]:
            await _take(step)
        await records.rpush(f"{NAMESPACE}:done:{data['name']}", "done")
    if "join" in data:
        await socket.join(data["join"])
    if "send" in data:
        await socket.send({"sent": data["send"]})
    if "room" in data:
        await socket.room(data["room"]).send(data["line"], exclude_sender=data.get("spare", False))
    if "to" in data:
        await socket.to(data["to"]).send(data["line"])
    return data.get("name")


async def _take(step: dict[str, Any]) -> None:
    """Join, leave, or let a job do that, and wait for it."""
    if "join" in step:
        await socket.join(step["join"])
    elif "leave" in step:
        await socket.leave(step["leave"])
    else:
        done = f"job:{uuid.uuid4()}"
        await queues.get("rooms").push({"steps": step["job"], "done": done})
        await records.blpop([f"{NAMESPACE}:{done}"], 30)

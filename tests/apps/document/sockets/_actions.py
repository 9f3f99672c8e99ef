"""What clients of this application may ask a handler or a job to do, one step after another."""

import asyncio
from typing import Any

from queue_run import ClientError, queues, socket


async def act(data: dict[str, Any]) -> Any:
    """Take the steps, and return the reply that is asked for."""
    for step in data.get("steps", ()):
        await take(step)
    return data.get("reply")


async def take(step: dict[str, Any]) -> None:
    match step:
        case {"send": message}:
            await socket.send(message)
        case {"to": users, "message": message}:
            await socket.to(users).send(message)
        case {"push": queue, "payload": payload}:
            await queues.get(queue).push(payload)
        case {"join": room}:
            await socket.join(room)
        case {"leave": room}:
            await socket.leave(room)
        case {"room": room, "message": message}:
            await socket.room(room).send(message, exclude_sender=step.get("exclude_sender", False))
        case {"fail": text}:
            raise RuntimeError(text)
        case {"tell": text}:
            raise ClientError(text)
        case {"sleep": seconds}:
            await asyncio.sleep(seconds)
        case _:
            raise ClientError(f"no such step: {step}")

"""Brings a chat message to every member of its room, on all their devices."""

from typing import Any

from queue_run import Config, socket

config = Config(timeout=10)


async def handler(job: dict[str, Any]) -> None:
    await socket.to(job["members"]).send(
        {"event": "message", "room": job["room"], "from": job["from"], "text": job["text"]}
    )

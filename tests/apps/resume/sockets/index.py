"""Does as it is told."""

import asyncio
from typing import Any

from queue_run import socket


async def handler(data: dict[str, Any]) -> Any:
    if "sleep" in data:
        await asyncio.sleep(data["sleep"])
    if "join" in data:
        await socket.join(data["join"])
    if "send" in data:
        await socket.send({"sent": data["send"]})
    if "room" in data:
        await socket.room(data["room"]).send(data["line"], exclude_sender=data.get("spare", False))
    return data.get("name")

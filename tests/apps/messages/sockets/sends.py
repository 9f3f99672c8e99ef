"""Sends in the way that it is asked to, from an asynchronous handler."""

from typing import Any

import redis

from queue_run import queues, socket
from queue_run.process import runtime


async def handler(data: dict[str, Any]) -> Any:
    match data["way"]:
        case "self":
            await socket.send({"sent": data["text"]})
            return {"written": broadcast_length()}
        case "without await":
            for number in range(data["count"]):
                socket.send({"sent": number})
            return {"count": data["count"]}
        case "others":
            await socket.to(data["users"]).send({"sent": data["text"]})
        case "close":
            await socket.close(4001, "enough")
        case "send and close":
            socket.send({"sent": data["text"]})
            socket.close()
        case "close others":
            await socket.to(data["users"]).close(4002, "out")
        case "job":
            return {"job": await queues.get(data["queue"]).push(data["payload"])}
    return None


def broadcast_length() -> int:
    """How many messages the channel holds: the one just sent is among them."""
    here = runtime.current()
    with redis.Redis.from_url(here.settings.redis_url) as client:
        return int(client.xlen(here.keys.broadcast))

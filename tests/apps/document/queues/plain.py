"""A plain job: to the current user, to a room, or one more job."""

from typing import Any

from queue_run import queues, socket


def handler(job: dict[str, Any]) -> None:
    match job:
        case {"send": message}:
            socket.send(message)
        case {"join": room, "message": message}:
            socket.join(room)
            socket.room(room).send(message)
        case {"push": queue, "payload": payload}:
            queues.get(queue).push(payload)

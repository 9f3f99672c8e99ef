"""An asynchronous job, which forgets to await one of its messages."""

from typing import Any

from queue_run import socket


async def handler(job: Any, *, job_id: str) -> None:
    socket.send({"job": job, "step": 1})
    await socket.send({"job": job, "step": 2, "id": job_id})

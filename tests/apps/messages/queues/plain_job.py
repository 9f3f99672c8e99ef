"""A plain job."""

from typing import Any

from queue_run import socket


def handler(job: Any, *, job_id: str, user: Any, queue_name: str, attempt: int) -> None:
    receipt = socket.send({"job": job, "id": job_id, "user": user})
    socket.to("watcher").send(
        {"offset": receipt.value.offset, "queue": queue_name, "attempt": attempt, "job": job}
    )

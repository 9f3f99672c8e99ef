"""A job that a strict type checker must accept."""

from typing import Any

from queue_run import Signal, queues, socket


def handler(job: dict[str, str], *, user: Any, job_id: str, signal: Signal) -> None:
    if not signal.is_set():
        receipt = socket.send({"answer": job["text"], "id": job_id})
        assert receipt.done
        pushed: str = queues.get("answer").push(job)
        assert pushed

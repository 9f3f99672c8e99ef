"""A job that a strict type checker must accept, and the handle for pushing it."""

from typing import Any

from queue_run import Config, Job, Signal, queues, socket

config = Config(retries=2, backoff=1.5, notify=True)
queue = queues.self(dict[str, str])


def handler(job: dict[str, str], *, user: Any, job_id: str, signal: Signal) -> None:
    if not signal.is_set():
        receipt = socket.send({"answer": job["text"], "id": job_id})
        assert receipt.done
        pushed: str = queues.get("answer").push(job, params={"again": "yes"})
        assert pushed
        queue.push(job)


def on_job_started(job: Job) -> None:
    assert job.attempt

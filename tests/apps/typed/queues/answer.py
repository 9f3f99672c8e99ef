"""A job that a strict type checker must accept, and the handle for pushing it."""

from typing import Any

from queue_run import Answer, Config, Job, Queue, Receipt, Signal, queues, socket

config = Config(retries=2, backoff=1.5, notify=True)
queue = Queue[dict[str, str]](__name__)


def handler(job: dict[str, str], *, user: Any, job_id: str, signal: Signal) -> None:
    if not signal.is_set():
        sent: Answer[Receipt] = socket.send({"answer": job["text"], "id": job_id})
        position: str | None = sent.value.offset
        assert position
        pushed: str = queues.get("answer").push(job, params={"again": "yes"}).value
        assert pushed
        queue.push(job)


def on_job_started(job: Job) -> None:
    assert job.attempt

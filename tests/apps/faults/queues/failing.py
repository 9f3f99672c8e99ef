"""Shows something, and fails at first; it tells its user of its end."""

from typing import Any

from queue_run import Config, socket
from tests.apps.faults.job_notes import ended

config = Config(timeout=5, retries=20, backoff=0.3, notify=True)


def handler(job: dict[str, Any], *, attempt: int) -> None:
    socket.send({"shown": job["number"]})
    if attempt == 1:
        raise ValueError("the first attempt fails")
    ended("failing", job["number"])

"""Kills the process that runs it."""

import os
import signal

from queue_run import Config
from tests.apps.jobs.record import note

config = Config(timeout=60, retries=2, backoff=0.2, notify=True)


def handler(job: str, *, job_id: str, attempt: int) -> None:
    note("begin", job=job_id, attempt=attempt)
    if job == "poison":
        os.kill(os.getpid(), signal.SIGKILL)

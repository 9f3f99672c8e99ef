"""Fails, and is to be tried again in a minute."""

from queue_run import Config
from tests.apps.jobs.record import note

config = Config(timeout=60, retries=3, backoff=60, notify=True)


def handler(job: str, *, job_id: str) -> None:
    note("begin", job=job_id)
    raise RuntimeError("try again")

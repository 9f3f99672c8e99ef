"""Fails until the test has mended it."""

from queue_run import Config
from tests.apps.jobs.record import client, key, note

config = Config(timeout=60, retries=3, backoff=0.3, notify=True)


def handler(job: str, *, job_id: str, attempt: int) -> None:
    note("begin", job=job_id, attempt=attempt)
    if not client().get(key(f"mended:{job}")):
        raise RuntimeError(f"{job} is broken")

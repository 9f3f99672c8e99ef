"""Runs until it is told to stop, in a FIFO group; a payload "short" ends at once."""

from queue_run import Config, Signal
from tests.apps.jobs.record import note

config = Config(timeout=60, notify=True, fifo=True, retries=3, backoff=60)


def handler(job: str, *, job_id: str, signal: Signal) -> None:
    note("begin", job=job_id)
    if job.startswith("fails"):
        raise RuntimeError("try again")
    if job.startswith("long") and signal.wait(60):
        note("told", job=job_id)
    note("end", job=job_id)

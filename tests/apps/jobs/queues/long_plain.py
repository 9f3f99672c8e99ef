"""Runs until it is told to stop, then says so."""

from queue_run import Config, Signal
from tests.apps.jobs.record import note

config = Config(timeout=60, notify=True)


def handler(job: str, *, job_id: str, signal: Signal) -> None:
    note("begin", job=job_id)
    if signal.wait(60):
        note("told", job=job_id)

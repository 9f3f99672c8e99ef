"""Runs past its timeout: a main thread is interrupted, any other one is told by the signal."""

import time

from queue_run import Config, HandlerTimeout, Signal
from tests.apps.jobs.record import note

config = Config(timeout=2, retries=0, notify=True)


def handler(job: str, *, job_id: str, signal: Signal) -> None:
    began = time.monotonic()
    try:
        while not (signal.is_set() and job == "listens"):
            if time.monotonic() - began > 20:
                return
            time.sleep(0.02)
    except HandlerTimeout:
        after = time.monotonic() - began
        note("interrupted", job=job_id, told=signal.wait(5), after=after)
        raise
    note("told", job=job_id, after=time.monotonic() - began)

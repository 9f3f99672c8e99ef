"""Runs past its timeout on an event loop, and is cancelled."""

import asyncio
import time

from queue_run import Config, Signal
from tests.apps.jobs.record import note

config = Config(timeout=2, retries=0, notify=True)


async def handler(job: str, *, job_id: str, signal: Signal) -> None:
    began = time.monotonic()
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        note("cancelled", job=job_id, after=time.monotonic() - began)
        raise

"""Runs until it is told to stop, then says so, without blocking its event loop."""

import asyncio

from queue_run import Config, Signal
from tests.apps.jobs.record import note

config = Config(timeout=60, notify=True)


async def handler(job: str, *, job_id: str, signal: Signal) -> None:
    note("begin", job=job_id)
    if await asyncio.to_thread(signal.wait, 60):
        note("told", job=job_id)

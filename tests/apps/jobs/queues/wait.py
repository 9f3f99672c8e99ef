"""Waits, as asynchronous jobs mostly do."""

import asyncio

from queue_run import Config
from tests.apps.jobs.record import note

config = Config(timeout=60)


async def handler(job: float, *, job_id: str) -> None:
    await asyncio.sleep(job)
    note("end", job=job_id)

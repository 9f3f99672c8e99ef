"""Writes a report page by page, and shows the progress in every tab of whoever asked for it."""

import asyncio

from queue_run import socket

SECONDS_PER_PAGE = 0.3


async def handler(job: dict[str, int], *, job_id: str) -> None:
    pages = job["pages"]
    for page in range(1, pages + 1):
        await asyncio.sleep(SECONDS_PER_PAGE)  # the work
        await socket.send({"event": "progress", "job": job_id, "done": page, "of": pages})
    await socket.send({"event": "report", "job": job_id, "text": f"Your {pages} pages are ready."})

"""Writes a report page by page, and shows the progress in every tab of whoever asked for it.

When its worker is killed it runs again, from the first page: the steps that were shown already are
not shown twice. `notify` tells its user how it ended, also where no worker is left to say so.
"""

import asyncio

from queue_run import Config, Queue, Signal, socket

config = Config(timeout=120, retries=2, backoff=1, notify=True)
queue = Queue[dict[str, int]](__name__)

SECONDS_PER_PAGE = 0.3


async def handler(job: dict[str, int], *, job_id: str, signal: Signal) -> None:
    pages = job["pages"]
    for page in range(1, pages + 1):
        if signal.is_set():  # cancelled, or the worker is about to end
            raise InterruptedError(f"stopped before page {page}")
        await asyncio.sleep(SECONDS_PER_PAGE)  # the work
        await socket.send({"event": "progress", "job": job_id, "done": page, "of": pages})
    await socket.send({"event": "report", "job": job_id, "text": f"Your {pages} pages are ready."})

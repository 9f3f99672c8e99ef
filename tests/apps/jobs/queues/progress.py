"""Shows its progress, and is killed in the middle of its first attempt."""

import asyncio
import os
import signal

from queue_run import Config, socket

config = Config(timeout=60, retries=2, backoff=0.2, notify=True)


async def handler(job: str, *, attempt: int) -> None:
    for step in range(1, 6):
        message = {"step": step}
        if job == "differs" and step == 2:
            message["attempt"] = attempt
        await socket.send(message)
        await asyncio.sleep(0)
        if step == 3 and attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)

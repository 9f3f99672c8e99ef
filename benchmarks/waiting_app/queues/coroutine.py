"""The same as a coroutine."""

import asyncio


async def handler(job: object) -> None:
    await asyncio.sleep(0.01)

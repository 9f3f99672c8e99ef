"""Answers with the time at which it was called."""

import time


async def handler(data: int) -> dict[str, float]:
    return {"n": data, "at": time.time()}

"""Runs past its time."""

import asyncio
from typing import Any

from queue_run import Config

config = Config(timeout=0.3)


async def handler(data: dict[str, Any]) -> str:
    await asyncio.sleep(data["seconds"])
    return "awake"

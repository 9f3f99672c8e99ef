"""Answers each message after the time that it is given, side by side."""

import asyncio
from typing import Any

from queue_run import Config

config = Config(ordered=False)


async def handler(data: dict[str, Any]) -> Any:
    await asyncio.sleep(data["seconds"])
    return data

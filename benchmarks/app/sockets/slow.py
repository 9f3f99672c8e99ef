"""A handler of which some calls wait, as for another service."""

import asyncio
from typing import Any


async def handler(data: Any) -> Any:
    await asyncio.sleep(data.get("sleep", 0))
    return {"echo": data}

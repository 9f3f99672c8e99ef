"""The handler that is measured."""

from typing import Any


async def handler(data: Any) -> Any:
    return {"echo": data}

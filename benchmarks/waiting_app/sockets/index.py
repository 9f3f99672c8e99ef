"""The handler that is asked while jobs wait."""

from typing import Any


async def handler(data: Any) -> Any:
    return data

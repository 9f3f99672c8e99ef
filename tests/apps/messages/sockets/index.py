"""Answers with what it got."""

from typing import Any


async def handler(data: Any) -> Any:
    return data if isinstance(data, bytes) else {"echo": data}

"""Answers with what it got, after all that was sent before."""

from typing import Any


async def handler(data: Any) -> Any:
    return {"echo": data}

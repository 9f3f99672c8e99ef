"""Replies with an object, bytes, text or nothing; of other objects, their JSON."""

import datetime
import uuid
from dataclasses import dataclass
from typing import Any


@dataclass
class Point:
    x: int
    at: datetime.date
    id: uuid.UUID


async def handler(data: str) -> Any:
    return {
        "object": {"a": [1, None]},
        "dataclass": Point(1, datetime.date(2020, 2, 29), uuid.UUID(int=1)),
        "bytes": b"\x00\xff",
        "text": "grüße",
        "huge": "x" * (1024 * 1024 + 1),
        "nothing": None,
    }[data]

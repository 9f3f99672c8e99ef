"""Takes a dataclass."""

from dataclasses import dataclass


@dataclass
class Point:
    x: int
    y: int = 0


async def handler(data: Point) -> object:
    assert isinstance(data, Point)
    return {"sum": data.x + data.y}

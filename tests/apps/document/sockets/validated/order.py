"""Takes a Struct with a list of Structs in it."""

from typing import Annotated

import msgspec


class Item(msgspec.Struct):
    name: str
    count: Annotated[int, msgspec.Meta(ge=1)]


class Order(msgspec.Struct, forbid_unknown_fields=True):
    items: list[Item]
    prices: dict[int, float] = {}


async def handler(data: Order) -> object:
    return {"count": sum(item.count for item in data.items), "prices": list(data.prices)}

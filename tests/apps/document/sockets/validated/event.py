"""Takes one of two tagged Structs."""

import msgspec


class Join(msgspec.Struct, tag="join"):
    room: str


class Say(msgspec.Struct, tag="say"):
    room: str
    text: str


async def handler(data: Join | Say) -> object:
    return {"kind": type(data).__name__, "room": data.room}

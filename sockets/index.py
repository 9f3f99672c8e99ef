"""Answers every message on ws://host/ with the message itself."""


async def handler(data: object) -> object:
    return {"echo": data}

"""Takes bytes."""


async def handler(data: bytes) -> bytes:
    return data[::-1]

"""Takes text, and sees no JSON in it."""


async def handler(data: str) -> str:
    return data.upper()

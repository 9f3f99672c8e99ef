"""A chat room: {"join": "lobby"}, then {"room": "lobby", "text": "hi"}."""

from queue_run import ClientError, queues, socket
from sockets._store import key, redis

ONE_DAY = 24 * 60 * 60


async def handler(data: object, user: dict[str, str] | None) -> None:
    if user is None:
        raise ClientError("the chat needs your name: connect to /chat?user=ann")
    match data:
        case {"join": str(room)} if room:
            await join(room, user["id"])
        case {"room": str(room), "text": str(text)} if text:
            await say(room, text, user["id"])
        case _:
            raise ClientError('send {"join": "lobby"} or {"room": "lobby", "text": "hi"}')


async def join(room: str, name: str) -> None:
    await redis().sadd(key("room", room), name)
    await redis().expire(key("room", room), ONE_DAY)
    everyone = await members(room)
    await socket.to(everyone).send({"event": "joined", "room": room, "members": everyone})


async def say(room: str, text: str, name: str) -> None:
    everyone = await members(room)
    if name not in everyone:
        raise ClientError(f'you are not in {room}: send {{"join": "{room}"}} first')
    await queues.get("chat").push({"room": room, "members": everyone, "from": name, "text": text})


async def members(room: str) -> list[str]:
    return sorted(map(str, await redis().smembers(key("room", room))))

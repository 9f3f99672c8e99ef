"""My devices: {"profile": {"name": "Ann"}} shows on every tab and phone of the same user."""

from queue_run import ClientError, socket
from sockets._store import key, redis

FIELDS = ("name", "color")


async def handler(data: object, user: dict[str, str] | None) -> object:
    if user is None:
        raise ClientError("a profile needs your name: connect to /devices?user=ann")
    match data:
        case {"get": "profile"}:
            return {"profile": await load(user["id"])}
        case {"profile": dict(changes)} if changes:
            await save(user["id"], changes)
            await socket.send({"event": "profile", "profile": await load(user["id"])})
            return None
    raise ClientError('send {"get": "profile"} or {"profile": {"name": "Ann", "color": "#7c3aed"}}')


async def load(name: str) -> object:
    return await redis().hgetall(key("profile", name))


async def save(name: str, changes: dict[str, object]) -> None:
    for field, value in changes.items():
        if field not in FIELDS or not isinstance(value, str) or len(value) > 80:
            raise ClientError('a profile has a "name" and a "color": texts of up to 80 characters')
    for field, value in changes.items():
        await redis().hset(key("profile", name), field, str(value))

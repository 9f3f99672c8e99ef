"""What a view of any web framework does when a user changes their profile (docs/frameworks.md)."""

from queue_run import as_user, socket
from sockets.devices import load, save


async def put(user: dict[str, str], body: dict[str, object]) -> None:
    await save(user["id"], body)
    with as_user(user):
        await socket.send({"event": "profile", "profile": await load(user["id"])})

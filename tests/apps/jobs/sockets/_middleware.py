"""Users from the query."""

from queue_run import ConnectionRequest


async def on_authenticate(request: ConnectionRequest) -> dict[str, str] | None:
    name = request.query.get("user")
    return {"id": name, "name": name.title()} if name else None

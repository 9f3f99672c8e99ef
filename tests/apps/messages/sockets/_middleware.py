"""Users from the query or a cookie; refusals of each kind."""

from typing import Any

from queue_run import ConnectionRequest, Refuse


async def on_authenticate(request: ConnectionRequest) -> dict[str, Any] | None:
    name = request.query.get("user") or request.cookies.get("user")
    if name == "nobody":
        raise Refuse(401, "who are you?")
    if name == "broken":
        raise RuntimeError("a bug in the application")
    if name == "without-id":
        return {"name": name}
    return {"id": name, "tags": ["x"]} if name else None

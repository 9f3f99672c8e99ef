"""Every connection of a fan-out belongs to one user."""

from typing import Any

on_message_received = None


async def on_authenticate(request: Any) -> dict[str, Any]:
    return {"id": request.query.get("user", "one")}

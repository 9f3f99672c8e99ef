"""Who is connecting? Asked once for every connection, before it is accepted."""

import re

from queue_run import ConnectionRequest, Refuse


async def on_authenticate(request: ConnectionRequest) -> dict[str, str] | None:
    # The demo believes any name. A real application checks a token or a session here.
    name = request.query.get("user") or request.cookies.get("user")
    if not name:
        return None
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", name):
        raise Refuse(401, "a user name is 1 to 32 letters, digits and . _ -")
    return {"id": name}

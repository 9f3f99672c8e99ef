"""Who is connecting, asked before a connection is accepted; and a log of all messages."""

import re

from queue_run import ConnectionRequest, Refuse, Request, SentMessage
from queue_run.middleware import log_message_received, log_message_sent


async def on_authenticate(request: ConnectionRequest) -> dict[str, str] | None:
    # The demo believes any name. A real application checks a token or a session here.
    name = request.query.get("user") or request.cookies.get("user")
    if not name:
        return None
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", name):
        raise Refuse(401, "a user name is 1 to 32 letters, digits and . _ -")
    return {"id": name}


async def on_message_received(request: Request) -> None:
    log_message_received(request)


async def on_message_sent(message: SentMessage) -> None:
    # A report tells its progress page by page: too much for the log.
    if not (isinstance(message.data, dict) and message.data.get("event") == "progress"):
        log_message_sent(message)

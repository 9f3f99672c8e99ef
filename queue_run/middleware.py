"""The middleware that an application has unless it brings its own; its own may wrap these.

Messages received and errors are logged, messages sent are not.
"""

import logging
from typing import Any

from queue_run.errors import ClientError, HandlerTimeout
from queue_run.requests import ConnectionRequest, Request, SentMessage

__all__ = ["log_error", "log_message_received", "log_message_sent"]

log = logging.getLogger("queue_run.messages")

#: Characters of a message that are logged.
SHOWN = 200


def log_message_received(request: Request) -> None:
    """The default `on_message_received`."""
    if not log.isEnabledFor(logging.INFO):
        return
    log.info(
        "%s: <= %s",
        request.connection,
        shown(request.data),
        extra={"action": "message_received", "request": request.request_id},
    )


def log_message_sent(message: SentMessage) -> None:
    """Logs a message that was sent; the default `on_message_sent` is None."""
    log.info("%s: => %s", message.target, shown(message.data), extra={"action": "message_sent"})


def log_error(error: BaseException, request: Request | ConnectionRequest | None) -> None:
    """The default `on_error`; with a traceback, unless the client is to blame."""
    expected = isinstance(error, ClientError | HandlerTimeout)
    log.log(
        logging.WARNING if expected else logging.ERROR,
        "%s failed: %s",
        _where(request),
        error,
        exc_info=None if expected else error,
        extra={"action": "error"},
    )


def shown(data: Any) -> str:
    """The beginning of a message on one line; control characters cannot forge log lines."""
    text = f"{len(data)} bytes" if isinstance(data, bytes) else repr(data)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _where(request: Request | ConnectionRequest | None) -> str:
    if isinstance(request, Request):
        user = request.user.get("id") if isinstance(request.user, dict) else None
        who = f"user {user}, {request.file}" if request.file else f"user {user}"
        return f"{request.request_id} at {request.path} ({who})"
    if isinstance(request, ConnectionRequest):
        return f"on_authenticate for {request.path} from {request.remote_ip}"
    return "sending"

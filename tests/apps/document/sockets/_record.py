"""Keeps a record of what middleware was called, for the tests to read."""

import json
from typing import Any

import redis

from queue_run import ConnectionRequest, Request, SentMessage
from queue_run.process import runtime


def received(file: str, request: Request) -> None:
    _note("on_message_received", file, request.data, connection=request.connection)


def sent(file: str, message: SentMessage) -> None:
    _note("on_message_sent", file, message.data, target=message.target)


def failed(file: str, error: BaseException, request: object) -> None:
    data = request.data if isinstance(request, Request) else {"mark": str(error)}
    if isinstance(request, ConnectionRequest):
        data = {"mark": request.query.get("mark")}
    _note("on_error", file, data, error=str(error), asker=type(request).__name__)


def note(hook: str, file: str, mark: str | None, **facts: object) -> None:
    here = runtime.current()
    entry = {"hook": hook, "file": file, "mark": mark, **facts}
    with redis.Redis.from_url(here.settings.redis_url) as client:
        client.rpush(f"{here.settings.namespace}:record", json.dumps(entry))


def _note(hook: str, file: str, data: Any, **facts: object) -> None:
    mark = data.get("mark") if isinstance(data, dict) else data if isinstance(data, str) else None
    shown = f"{len(data)} bytes" if isinstance(data, bytes) else data
    note(hook, file, mark, data=shown, **facts)

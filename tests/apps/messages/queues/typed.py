"""Says which type its payload had."""

from typing import Any

from queue_run import socket


def handler(job: Any, *, user: Any) -> None:
    socket.send({"type": type(job).__name__, "size": len(job)})

"""Sends from a plain handler."""

from typing import Any

from queue_run import socket


def handler(data: dict[str, Any]) -> dict[str, Any]:
    receipt = socket.send({"sent": data["text"]})
    return {"offset": receipt.value.offset}

"""A client of the envelope protocol, for scripts, services and tests (docs/client.md)."""

from queue_run.client.client import Client, connect
from queue_run.client.errors import (
    ClientClosed,
    ConnectionFailed,
    ConnectionRefused,
    OutcomeUnknown,
    RequestFailed,
)

__all__ = [
    "Client",
    "ClientClosed",
    "ConnectionFailed",
    "ConnectionRefused",
    "OutcomeUnknown",
    "RequestFailed",
    "connect",
]

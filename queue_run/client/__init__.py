"""A client of the envelope protocol, for scripts, services and tests (docs/client.md)."""

import warnings
from typing import Any

from queue_run.client.client import Client, connect
from queue_run.client.errors import (
    ClientClosed,
    ConnectionFailed,
    OutcomeUnknown,
    Rejected,
    RequestFailed,
)

__all__ = [
    "Client",
    "ClientClosed",
    "ConnectionFailed",
    "OutcomeUnknown",
    "Rejected",
    "RequestFailed",
    "connect",
]


def __getattr__(name: str) -> Any:
    # Until 1.0. It reads as Python's own ConnectionRefusedError, which is something else.
    if name == "ConnectionRefused":
        warnings.warn(
            "queue_run.client.ConnectionRefused is called Rejected now",
            DeprecationWarning,
            stacklevel=2,
        )
        return Rejected
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

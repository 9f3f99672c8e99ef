"""Waiting for what a test expects, with a generous deadline and never for a fixed time."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds after which something that must happen has not happened: machines stall for seconds.
DEADLINE = 60.0
POLL = 0.02


def eventually(check: Callable[[], T], *, what: str, deadline: float = DEADLINE) -> T:
    """The first true value that `check` gives.

    Raises:
        AssertionError: when there is none before the deadline.
    """
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        value = check()
        if value:
            return value
        time.sleep(POLL)
    raise AssertionError(f"after {deadline:g} seconds still waiting for {what}")


async def eventually_async(check: Callable[[], T], *, what: str, deadline: float = DEADLINE) -> T:
    """The same, while the test's event loop goes on."""
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        value = check()
        if value:
            return value
        await asyncio.sleep(POLL)
    raise AssertionError(f"after {deadline:g} seconds still waiting for {what}")

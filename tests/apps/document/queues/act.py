"""An asynchronous job that does what it is asked to."""

from typing import Any

from tests.apps.document.sockets._actions import act


async def handler(job: dict[str, Any]) -> None:
    await act(job)

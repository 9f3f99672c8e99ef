"""Does what it is asked to."""

from typing import Any

from tests.apps.document.sockets._actions import act


async def handler(data: dict[str, Any]) -> Any:
    return await act(data)

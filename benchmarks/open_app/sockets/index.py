"""An application without `on_authenticate`."""

from typing import Any


async def handler(data: Any) -> Any:
    return {"echo": data}

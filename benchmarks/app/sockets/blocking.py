"""The same as a plain function."""

import time
from typing import Any


def handler(data: Any) -> Any:
    time.sleep(data.get("sleep", 0))
    return {"echo": data}

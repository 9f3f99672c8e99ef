"""Fails in the way that it is asked to."""

import asyncio
import os
import signal
import sys
import time
from typing import Any

from queue_run import ClientError, Config

config = Config(timeout=1.0)


async def handler(data: Any) -> Any:
    match data:
        case "raise":
            raise ValueError("a secret of the application")
        case "client error":
            raise ClientError("send a number")
        case "unencodable":
            return object()
        case "exit":
            sys.exit(3)
        case "cancel":
            raise asyncio.CancelledError
        case "sleep":
            await asyncio.sleep(600)
        case "block":
            await asyncio.to_thread(time.sleep, 2)
        case "huge":
            return "x" * (1024 * 1024 + 1)
        case "kill the worker":
            os.kill(os.getpid(), signal.SIGKILL)
    return "fine"

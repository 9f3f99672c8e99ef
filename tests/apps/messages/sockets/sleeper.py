"""A plain function that runs past its timeout, in a thread that nobody can stop."""

import time
from typing import Any

from queue_run import Config, Signal

config = Config(timeout=0.5)


def handler(data: Any, signal: Signal) -> str:
    if data == "sleep":
        # Ends as soon as it is told, so that the thread is not lost.
        signal.wait(600)
        time.sleep(0)
    return "awake"

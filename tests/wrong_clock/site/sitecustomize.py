"""Loaded by Python at its start, in processes that run under libfaketime.

`time.sleep` waits for a moment of the monotonic clock, which libfaketime takes for one of the
system clock: without this, every sleep fails with "Invalid argument".
"""

import select
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex) -> None:
    select.select((), (), (), float(seconds))


time.sleep = sleep

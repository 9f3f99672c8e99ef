"""Works for a moment, in the order of its group, and tells its user of its end."""

import time
from typing import Any

from queue_run import Config
from tests.apps.faults.job_notes import ended

config = Config(timeout=5, retries=3, backoff=0.5, notify=True, fifo=True)


def handler(job: dict[str, Any], *, group_id: str) -> None:
    time.sleep(job["takes"])
    ended("grouped", job["number"], group_id)

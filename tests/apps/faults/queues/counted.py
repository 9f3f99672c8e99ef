"""Works for a moment, and tells its user of its end."""

import time
from typing import Any

from queue_run import Config
from tests.apps.faults.job_notes import ended

config = Config(timeout=5, retries=3, backoff=0.5, notify=True)


def handler(job: dict[str, Any]) -> None:
    time.sleep(job["takes"])
    ended("counted", job["number"])

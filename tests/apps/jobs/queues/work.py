"""Works for a moment, and leaves a record of its begin and its end."""

import time
from typing import Any

from tests.apps.jobs.record import note


def handler(job: dict[str, Any], *, job_id: str, attempt: int) -> None:
    note("begin", job=job_id, n=job["n"], attempt=attempt)
    time.sleep(job["seconds"])
    note("end", job=job_id, n=job["n"], attempt=attempt)

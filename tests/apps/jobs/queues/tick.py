"""Runs every second, where a beat runs."""

from typing import Any

from queue_run import Config
from tests.apps.jobs.record import note

config = Config(timeout=60, schedule="every second")


def handler(job: Any, *, job_id: str, queued_at: float | None) -> None:
    note("tick", job=job_id, payload=job, queued_at=queued_at)

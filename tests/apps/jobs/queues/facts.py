"""Notes all that a plain job is given."""

from typing import Any

from queue_run import Signal
from tests.apps.jobs.record import note


def handler(
    job: Any,
    *,
    user: Any,
    job_id: str,
    queue_name: str,
    queued_at: float,
    attempt: int,
    group_id: str | None,
    sequence_number: int | None,
    params: dict[str, str],
    signal: Signal,
) -> None:
    note(
        "facts",
        payload=job,
        user=user,
        job=job_id,
        queue_name=queue_name,
        queued_at=queued_at,
        attempt=attempt,
        group_id=group_id,
        sequence_number=sequence_number,
        params=params,
        signal=signal.is_set(),
    )

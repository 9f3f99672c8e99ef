"""Works for a moment in its group, and notes when another job of the group does so too."""

import time
from typing import Any

from queue_run import Config
from tests.apps.jobs.record import client, key, note

config = Config(timeout=9, retries=50, backoff=0.2, fifo=True)


def handler(
    job: dict[str, Any], *, job_id: str, attempt: int, group_id: str, sequence_number: int
) -> None:
    facts = {"job": job_id, "n": job["n"], "attempt": attempt, "group": group_id}
    lock, me = key(f"lock:{group_id}"), f"{job_id} {attempt}"
    # Before it holds the lock: a worker that is killed in between is the holder all the same.
    note("about to hold", **facts)
    holder = client().set(lock, me, nx=True, get=True)
    note("begin", sequence=sequence_number, beside=holder, **facts)
    client().set(lock, me)
    time.sleep(job["seconds"])
    client().delete(lock)
    note("end", **facts)

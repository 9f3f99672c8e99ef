"""Has middleware of its own, plain and asynchronous."""

from queue_run import Config, Job
from tests.apps.jobs.record import note, note_hook

config = Config(timeout=60, retries=1, backoff=0.2)


def on_job_started(job: Job) -> None:
    note_hook("started", job)


async def on_job_finished(job: Job) -> None:
    note_hook("finished", job)


def on_error(error: BaseException, job: Job) -> None:
    note_hook("error", job, error=repr(error))


async def handler(job: str, *, job_id: str, attempt: int) -> None:
    note("begin", job=job_id, attempt=attempt)
    if (job == "fails once" and attempt == 1) or job == "fails":
        raise ValueError(job)

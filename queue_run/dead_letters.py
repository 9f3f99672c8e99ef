"""Jobs that have failed for good: `from queue_run import dead_letters`.

Plain functions, which ask Redis and block for as long: in asynchronous code call them with
`asyncio.to_thread`. `queue-run queue dead` is the same on the command line.
"""

import msgspec

from queue_run.contracts.ids import job_id as checked
from queue_run.errors import UnknownDeadLetter
from queue_run.jobs.envelopes import DeadLetter
from queue_run.process import runtime

__all__ = ["drop", "get", "newest", "retry"]


def newest(queue: str | None = None, *, limit: int = 100) -> list[DeadLetter]:
    """The dead letters of a queue, or of all; the newest first, at most `limit`.

    Raises:
        JobStoreUnavailable: when Redis does not answer in time.
    """
    return runtime.current().dead_letters.newest(queue, limit=limit)


def get(job_id: str) -> DeadLetter:
    """One dead letter.

    Raises:
        InvalidName: for what is no id of a job.
        UnknownDeadLetter: when there is none of this job.
        JobStoreUnavailable: when Redis does not answer in time.
    """
    letter = runtime.current().dead_letters.get(checked(job_id))
    if letter is None:
        raise UnknownDeadLetter(job_id)
    return letter


def retry(job_id: str) -> None:
    """Run a job again, under its id and with all its attempts; in a FIFO queue as the last of its
    group.

    Raises:
        InvalidName: for what is no id of a job.
        UnknownDeadLetter: when there is none of this job.
        JobStoreUnavailable: when Redis does not answer in time.
    """
    letter = get(job_id)
    job = letter.job
    facts = msgspec.structs.replace(job.facts, revived=job.facts.revived + 1)
    again = msgspec.structs.replace(job, facts=facts)
    if not runtime.current().dead_letters.revive(letter, again):
        raise UnknownDeadLetter(job_id)


def drop(job_id: str) -> None:
    """Forget a job.

    Raises:
        InvalidName: for what is no id of a job.
        UnknownDeadLetter: when there is none of this job.
        JobStoreUnavailable: when Redis does not answer in time.
    """
    if not runtime.current().dead_letters.drop(checked(job_id)):
        raise UnknownDeadLetter(job_id)

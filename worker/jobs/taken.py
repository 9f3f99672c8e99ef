"""Jobs that a worker has taken, from the broker or from their group: how each is given back.

What becomes of an attempt is decided in one place for both (`worker.jobs.attempts`).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from queue_run.application.requests import Signal
from queue_run.jobs.attempt_records import Attempts, End
from queue_run.jobs.groups import Group, Groups
from queue_run.jobs.pushing import check_group
from queue_run.jobs.stored import StoredJob
from worker.application.routes import JobHandler
from worker.jobs.leases import Lease

log = logging.getLogger(__name__)

#: What is to be done with a job that was taken: run it; end it, it was cancelled; park it, its
#: attempts are used up.
Due: TypeAlias = Literal["run", "cancelled", "exhausted"]


@dataclass(slots=True)
class FromBroker:
    """A job of its own, under its attempt's token."""

    attempts: Attempts
    job: StoredJob
    token: str
    due: Due
    attempt: int
    group: None = None
    sequence: None = None

    def check(self, handler: JobHandler) -> Callable[[], None]:
        """Make the check that its queue takes it, which is called before it is run."""
        return partial(check_group, self.job, handler.facts, None)

    def end(self, end: End) -> None:
        """Write down how it has ended."""
        self.attempts.end(self.job.id, self.token, end)

    def retry(self, after: float) -> None:
        """Let it be run once more after so many seconds."""
        if not self.attempts.retry(self.job, self.token, after=after):
            log.warning("%s is run by another worker already", name_of(self.job))


@dataclass(slots=True)
class FromGroup:
    """The first job of a group, which is held by the token of a drain."""

    groups: Groups
    job: StoredJob
    token: str
    due: Due
    attempt: int
    group: Group
    #: Its position within its queue.
    sequence: int

    def check(self, handler: JobHandler) -> None:
        """Check nothing: a push checks a job before it lets it wait in a group."""

    def end(self, end: End) -> None:
        """Nothing is written: the drain's next step removes it."""

    def retry(self, after: float) -> None:
        """Let it be run once more after so many seconds; the others of its group wait behind it."""
        self.groups.postpone(self.group, self.token, self.job.id, after)


Taken: TypeAlias = FromBroker | FromGroup


def lease_of(taken: Taken, handler: JobHandler, job_signal: Signal) -> Lease:
    """The lease under which an attempt of it runs."""
    return Lease(
        job_id=taken.job.id,
        token=taken.token,
        group=taken.group,
        timeout=handler.timeout,
        signal=job_signal,
    )


def name_of(job: StoredJob) -> str:
    """The job in the log."""
    return f"{job.queue}[{job.id}]"

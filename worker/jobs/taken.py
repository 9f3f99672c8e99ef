"""Jobs that a worker has taken, from the broker or from their group: how each is given back.

What becomes of an attempt is decided in one place for both (`worker.jobs.attempts`).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from queue_run.application.requests import Signal
from queue_run.jobs.attempts import Attempts, End
from queue_run.jobs.envelopes import JobEnvelope
from queue_run.jobs.lanes import Lane, Lanes
from queue_run.jobs.pushing import check_group
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
    job: JobEnvelope
    token: str
    due: Due
    attempt: int
    lane: None = None
    sequence: None = None

    def check(self, queue: JobHandler) -> Callable[[], None]:
        """What says whether its queue takes it, before it is run."""
        return partial(check_group, self.job, queue.facts, None)

    def end(self, end: End) -> None:
        """Write down how it has ended."""
        self.attempts.end(self.job.id, self.token, end)

    def retry(self, after: float) -> None:
        """Let it be run once more after so many seconds."""
        if not self.attempts.retry(self.job, self.token, after=after):
            log.warning("%s is run by another worker already", name_of(self.job))


@dataclass(slots=True)
class FromGroup:
    """The first job of a lane, which is held by the token of a drain."""

    lanes: Lanes
    job: JobEnvelope
    token: str
    due: Due
    attempt: int
    lane: Lane
    #: Its position within its queue.
    sequence: int

    def check(self, queue: JobHandler) -> None:
        """It was checked when it was pushed: else it would wait in no lane."""

    def end(self, end: End) -> None:
        """Nothing is written: the drain's next step removes it."""

    def retry(self, after: float) -> None:
        """Let it be run once more after so many seconds; the others of its group wait behind it."""
        self.lanes.postpone(self.lane, self.token, self.job.id, after)


Taken: TypeAlias = FromBroker | FromGroup


def lease_of(taken: Taken, queue: JobHandler, job_signal: Signal) -> Lease:
    """The lease under which an attempt of it runs."""
    return Lease(
        job_id=taken.job.id,
        token=taken.token,
        lane=taken.lane,
        timeout=queue.timeout,
        signal=job_signal,
    )


def name_of(job: JobEnvelope) -> str:
    """The job in the log."""
    return f"{job.queue}[{job.id}]"

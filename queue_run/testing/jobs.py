"""The jobs that code under test has pushed: those that wait, run, or have ended."""

import collections
import threading
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from queue_run.application.requests import Signal
from queue_run.jobs.groups import DEDUPE_WINDOW, Group
from queue_run.jobs.stored import StoredJob

#: Jobs that one `run_jobs` runs: beyond it, jobs push jobs for ever.
MOST_JOBS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A job that was pushed. Two are equal when everything except their ids and times is equal."""

    queue: str
    payload: Any
    #: The user whose request or job pushed it; None for a job without a user.
    user: Any = None
    #: Given beside the payload.
    params: dict[str, str] = field(default_factory=dict)
    #: FIFO queues: the group that it was pushed to.
    group: str | None = None
    #: FIFO queues: the id given to `dedupe`; None where payloads are compared.
    dedupe: str | None = None
    id: str = field(default="", compare=False)
    #: Unix time.
    queued_at: float | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KeptJob:
    """A job that waits or runs."""

    stored: StoredJob
    #: FIFO queues: its position within the queue.
    sequence: int | None = None
    #: The job as the test sees it.
    pushed: Pushed
    signal: Signal = field(default_factory=Signal)

    @property
    def group(self) -> Group | None:
        """The job's FIFO group; None for a job without a group."""
        group = self.stored.facts.group
        return None if group is None else Group(self.stored.queue, group)


#: A group, and what is equal for the same push to it.
_Push: TypeAlias = tuple[Group, str]


class PushedJobs:
    """All jobs of one application; safe to use from any thread."""

    def __init__(self) -> None:
        self._all: list[Pushed] = []
        self._waiting: collections.deque[KeptJob] = collections.deque()
        self._running: dict[str, KeptJob] = {}
        self._cancelled: set[str] = set()
        self._ended: set[str] = set()
        #: The first of equal pushes, and its Unix time.
        self._first: dict[_Push, tuple[str, float]] = {}
        self._sequences: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def push(self, job: StoredJob, *, same: str = "", dedupe: str | None = None) -> str:
        """Let a job wait, unless it repeats a push to its group.

        Args:
            same: FIFO queues: a text that is equal for repetitions of a push to the group.
            dedupe: FIFO queues: the id given to `dedupe`, if any.

        Returns:
            The id of the job that waits: the first one, where this push is a repetition.
        """
        entry = _entry(job, dedupe)
        with self._lock:
            first = self._first_push(entry, same)
            if first != job.id:
                return first
            self._all.append(entry.pushed)
            self._waiting.append(self._numbered(entry))
            return job.id

    def revive(self, job: StoredJob) -> None:
        """Let a job that has failed for good wait again."""
        with self._lock:
            self._ended.discard(job.id)
            self._waiting.append(self._numbered(_entry(job)))

    def begin(self, job: StoredJob) -> KeptJob:
        """Begin a job that was not pushed."""
        with self._lock:
            return self._begun(self._numbered(_entry(job)))

    def take(self) -> KeptJob | None:
        """Begin the next job; None when none waits, except behind a running one of its group."""
        with self._lock:
            held = {entry.group for entry in self._running.values()} - {None}
            for place, entry in enumerate(self._waiting):
                if entry.group not in held:
                    del self._waiting[place]
                    return self._begun(entry)
            return None

    def end(self, entry: KeptJob) -> None:
        """Note that a job that was begun has ended."""
        with self._lock:
            del self._running[entry.stored.id]
            self._cancelled.discard(entry.stored.id)
            self._ended.add(entry.stored.id)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job: a waiting one does not run, a running one finds its signal set.

        False when the job has ended.
        """
        with self._lock:
            if job_id in self._ended:
                return False
            self._cancelled.add(job_id)
            running = self._running.get(job_id)
        if running is not None:
            running.signal.set()
        return True

    def is_cancelled(self, job_id: str) -> bool:
        with self._lock:
            return job_id in self._cancelled

    def clear(self) -> None:
        """Forget all pushes."""
        with self._lock:
            self._all.clear()
            self._waiting.clear()
            self._first.clear()
            self._sequences.clear()

    @property
    def any_wait(self) -> bool:
        with self._lock:
            return bool(self._waiting)

    @property
    def all(self) -> list[Pushed]:
        with self._lock:
            return list(self._all)

    def _begun(self, entry: KeptJob) -> KeptJob:
        self._running[entry.stored.id] = entry
        return entry

    def _numbered(self, entry: KeptJob) -> KeptJob:
        """The job with its position within its queue, if that is a FIFO queue."""
        if entry.group is None:
            return entry
        self._sequences[entry.group.queue] += 1
        return replace(entry, sequence=self._sequences[entry.group.queue])

    def _first_push(self, entry: KeptJob, same: str) -> str:
        """The id of the job that was pushed first; the job's own id if it is not a repetition."""
        job_id, now = entry.stored.id, entry.stored.facts.queued_at
        if entry.group is None or now is None:
            return job_id
        key = entry.group, same
        first, at = self._first.get(key, (job_id, now))
        if now - at >= DEDUPE_WINDOW:
            first, at = job_id, now
        self._first[key] = first, at
        return first


def _entry(job: StoredJob, dedupe: str | None = None) -> KeptJob:
    facts = job.facts
    pushed = Pushed(
        queue=job.queue,
        payload=job.payload,
        user=facts.user,
        params=facts.params,
        group=facts.group,
        dedupe=dedupe,
        id=job.id,
        queued_at=facts.queued_at,
    )
    return KeptJob(stored=job, pushed=pushed)

"""Jobs that code under test has pushed: those that wait, those that run, those that have ended."""

import collections
import threading
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from queue_run.application.requests import Signal
from queue_run.jobs.envelopes import JobEnvelope
from queue_run.jobs.lanes import DEDUPE_WINDOW, Lane

#: Jobs that one `run_jobs` runs: beyond it, jobs push jobs for ever.
MOST_JOBS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A job that was pushed. Two are equal when everything but their ids and times is."""

    queue: str
    payload: Any
    #: The user whose request or job pushed it; None without.
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
class Entry:
    """A job that waits or runs."""

    envelope: JobEnvelope
    #: FIFO queues: its position within the queue.
    sequence: int | None = None
    #: What the test sees of it.
    pushed: Pushed
    signal: Signal = field(default_factory=Signal)

    @property
    def lane(self) -> Lane | None:
        """Its FIFO group, where it has one."""
        group = self.envelope.facts.group
        return None if group is None else Lane(self.envelope.queue, group)


#: A group, and what is equal for the same push to it.
_Push: TypeAlias = tuple[Lane, str]


class PushedJobs:
    """All jobs of one application; safe to use from any thread."""

    def __init__(self) -> None:
        self._all: list[Pushed] = []
        self._waiting: collections.deque[Entry] = collections.deque()
        self._running: dict[str, Entry] = {}
        self._cancelled: set[str] = set()
        self._ended: set[str] = set()
        #: The first of equal pushes, and its Unix time.
        self._first: dict[_Push, tuple[str, float]] = {}
        self._sequences: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def push(self, job: JobEnvelope, *, same: str = "", dedupe: str | None = None) -> str:
        """Let a job wait, unless it repeats a push to its group; the id of the one that waits.

        Args:
            same: FIFO queues: equal for what is the same push to the group.
            dedupe: what was given for it.
        """
        entry = _entry(job, dedupe)
        with self._lock:
            first = self._first_push(entry, same)
            if first != job.id:
                return first
            self._all.append(entry.pushed)
            self._waiting.append(self._numbered(entry))
            return job.id

    def revive(self, job: JobEnvelope) -> None:
        """Let a job wait that has failed for good."""
        with self._lock:
            self._ended.discard(job.id)
            self._waiting.append(self._numbered(_entry(job)))

    def begin(self, job: JobEnvelope) -> Entry:
        """Run a job that nobody has pushed."""
        with self._lock:
            return self._begun(self._numbered(_entry(job)))

    def take(self) -> Entry | None:
        """The next job to be run; None when none waits but for one of its group that runs."""
        with self._lock:
            held = {entry.lane for entry in self._running.values()} - {None}
            for place, entry in enumerate(self._waiting):
                if entry.lane not in held:
                    del self._waiting[place]
                    return self._begun(entry)
            return None

    def end(self, entry: Entry) -> None:
        """A job that was begun has ended."""
        with self._lock:
            del self._running[entry.envelope.id]
            self._cancelled.discard(entry.envelope.id)
            self._ended.add(entry.envelope.id)

    def cancel(self, job_id: str) -> bool:
        """Let a job that waits not run, and tell one that runs; False when it has ended."""
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
        """Forget what was pushed, as if nothing ever had been."""
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

    def _begun(self, entry: Entry) -> Entry:
        self._running[entry.envelope.id] = entry
        return entry

    def _numbered(self, entry: Entry) -> Entry:
        """The job with its position within its queue, if that is a FIFO queue."""
        if entry.lane is None:
            return entry
        self._sequences[entry.lane.queue] += 1
        return replace(entry, sequence=self._sequences[entry.lane.queue])

    def _first_push(self, entry: Entry, same: str) -> str:
        """The id of the job that was pushed first; its own, where it is no repetition."""
        job_id, now = entry.envelope.id, entry.envelope.facts.queued_at
        if entry.lane is None or now is None:
            return job_id
        key = entry.lane, same
        first, at = self._first.get(key, (job_id, now))
        if now - at >= DEDUPE_WINDOW:
            first, at = job_id, now
        self._first[key] = first, at
        return first


def _entry(job: JobEnvelope, dedupe: str | None = None) -> Entry:
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
    return Entry(envelope=job, pushed=pushed)

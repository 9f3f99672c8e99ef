"""Jobs that wait for their time: for a retry, or for an attempt elsewhere to be over.

A sorted set of due times, and the jobs beside it. Whoever finds a job due claims it for a while,
hands it to the broker, and only then removes it: one that dies in between leaves it to the next.
"""

import logging
from dataclasses import dataclass

from queue_run.errors import InvalidEnvelope
from queue_run.jobs.stored import StoredJob, decode_job, encode
from queue_run.storage.script_files import load
from queue_run.storage.scripts import Store, milliseconds

log = logging.getLogger(__name__)

#: Seconds in which a claimed job must have reached the broker.
TAKEN_FOR = 30.0

# A full Redis runs these, as in `attempt_records`: a job that waits has been elsewhere.
_ADD = load("delays/add")
_TAKE_DUE = load("delays/take_due")
_DONE = load("delays/done")


@dataclass(frozen=True, slots=True)
class DueJob:
    """A job whose time has come."""

    job: StoredJob
    #: By which a claim knows that nobody has delayed the job anew meanwhile.
    score: bytes


class Delays:
    """The jobs that wait."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._set, self._jobs = store.keys.delayed, store.keys.delayed_jobs

    def add(self, job: StoredJob, after: float) -> None:
        """Let a job come `after` so many seconds."""
        arguments = [job.id, encode(job), milliseconds(after)]
        self._store.call(_ADD, [self._set, self._jobs], arguments)

    def take_due(self, limit: int) -> list[DueJob]:
        """Claim at most `limit` due jobs: no other worker gets them for `TAKEN_FOR` seconds."""
        flat = self._store.call(
            _TAKE_DUE, [self._set, self._jobs], [milliseconds(TAKEN_FOR), limit]
        )
        due_jobs = []
        for data, score in zip(flat[::2], flat[1::2], strict=True):
            try:
                due_jobs.append(DueJob(decode_job(data), score))
            except InvalidEnvelope as error:
                log.error("a delayed job cannot be read, and is left to wait: %s", error)
        return due_jobs

    def done(self, due_job: DueJob) -> None:
        """Remove a job that is with the broker now."""
        self._store.call(_DONE, [self._set, self._jobs], [due_job.job.id, due_job.score])

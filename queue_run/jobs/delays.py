"""Jobs that wait for their time: for a retry, or for an attempt elsewhere to be over.

A sorted set of due times, and the jobs beside it. Whoever finds a job due claims it for a while,
hands it to the broker, and only then removes it: one that dies in between leaves it to the next.
"""

import logging
from dataclasses import dataclass

from queue_run.errors import InvalidEnvelope
from queue_run.jobs.envelopes import JobEnvelope, decode_job, encode
from queue_run.storage.script_files import load
from queue_run.storage.scripts import Store, milliseconds

log = logging.getLogger(__name__)

#: Seconds in which a claimed job must have reached the broker.
CLAIM = 30.0

# A full Redis runs these, as in `queue_run.jobs.attempts`: a job that waits has been elsewhere.
_ADD = load("delays/add")
_CLAIM = load("delays/claim")
_DONE = load("delays/done")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job whose time has come."""

    job: JobEnvelope
    #: By which a claim knows that nobody has delayed the job anew meanwhile.
    score: bytes


class Delays:
    """The jobs that wait."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._set, self._jobs = store.keys.delayed, store.keys.delayed_jobs

    def add(self, job: JobEnvelope, after: float) -> None:
        """Let a job come `after` so many seconds."""
        arguments = [job.id, encode(job), milliseconds(after)]
        self._store.call(_ADD, [self._set, self._jobs], arguments)

    def claim(self, limit: int) -> list[Claimed]:
        """Jobs that are due, at most `limit`: nobody else gets them for `CLAIM` seconds."""
        flat = self._store.call(_CLAIM, [self._set, self._jobs], [milliseconds(CLAIM), limit])
        claimed = []
        for data, score in zip(flat[::2], flat[1::2], strict=True):
            try:
                claimed.append(Claimed(decode_job(data), score))
            except InvalidEnvelope as error:
                log.error("a delayed job cannot be read, and is left to wait: %s", error)
        return claimed

    def done(self, claimed: Claimed) -> None:
        """The job is with the broker."""
        self._store.call(_DONE, [self._set, self._jobs], [claimed.job.id, claimed.score])

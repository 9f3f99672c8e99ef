"""Dead letters without Redis: the jobs of a test that have failed for good."""

import threading

from queue_run.jobs.dead import DeadLetters
from queue_run.jobs.stored import DeadLetter, StoredJob
from queue_run.testing.jobs import PushedJobs


class KeptLetters(DeadLetters):
    """The dead letters of a test, which `queue_run.dead_letters` reads and changes."""

    def __init__(self, jobs: PushedJobs) -> None:
        # Without the base's own set-up, which is Redis.
        self._jobs = jobs
        self._letters: dict[str, DeadLetter] = {}
        self._lock = threading.Lock()

    def keep(self, letter: DeadLetter) -> None:
        with self._lock:
            self._letters[letter.job.id] = letter

    def newest(self, queue: str | None = None, *, limit: int) -> list[DeadLetter]:
        with self._lock:
            letters = list(reversed(self._letters.values()))
        return [each for each in letters if queue is None or each.job.queue == queue][:limit]

    def get(self, job_id: str) -> DeadLetter | None:
        with self._lock:
            return self._letters.get(job_id)

    def revive(self, letter: DeadLetter, job: StoredJob) -> bool:
        if not self.drop(job.id):
            return False
        self._jobs.revive(job)
        return True

    def drop(self, job_id: str) -> bool:
        with self._lock:
            return self._letters.pop(job_id, None) is not None

    def clear(self) -> None:
        with self._lock:
            self._letters.clear()

"""What follows from how a job ended: what its user is told, and what is kept of it."""

from queue_run.testing.jobs import Entry
from queue_run.testing.process import InProcessRuntime
from worker.application.routes import JobHandler
from worker.jobs.attempts import Jobs, may_retry


class Ends(Jobs):
    """What a worker does at the end of an attempt; but nothing is run again by itself."""

    def __init__(self, runtime: InProcessRuntime) -> None:
        # Without the base's own set-up, which is Redis, leases and the worker's loop.
        self._settings = runtime.settings
        self._attempts = runtime.attempts

    def cancelled(self, queue: JobHandler, entry: Entry) -> None:
        """Somebody has cancelled the job, before it ran or meanwhile."""
        self._tell(queue, entry.envelope, "cancelled")

    def finished(self, queue: JobHandler, entry: Entry) -> None:
        """The handler has returned."""
        self._tell(queue, entry.envelope, "finished")

    def failed(self, queue: JobHandler, entry: Entry, attempt: int, failure: BaseException) -> None:
        """An attempt has failed; for good, where a worker would not make another."""
        # A payload that does not fit will not fit later either.
        if not may_retry(queue, failure, attempt):
            self._park(queue, entry.envelope, "", attempt, failure, entry.sequence)

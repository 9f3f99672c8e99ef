"""What follows from how a job ended: what its user is told, and what is kept of it."""

from queue_run.testing.jobs import Entry
from queue_run.testing.process import InProcessRuntime
from worker.application.routes import JobHandler
from worker.jobs import ends
from worker.jobs.attempts import may_retry


class Ends:
    """What a worker does at the end of an attempt; but nothing is run again by itself."""

    def __init__(self, runtime: InProcessRuntime) -> None:
        self._ends = ends.Ends(runtime.settings, runtime.attempts)

    def cancelled(self, queue: JobHandler, entry: Entry) -> None:
        """Somebody has cancelled the job, before it ran or meanwhile."""
        self._ends.tell(queue, entry.envelope, "cancelled")

    def finished(self, queue: JobHandler, entry: Entry) -> None:
        """The handler has returned."""
        self._ends.tell(queue, entry.envelope, "finished")

    def failed(self, queue: JobHandler, entry: Entry, attempt: int, failure: BaseException) -> None:
        """An attempt has failed; for good, where a worker would not make another."""
        if not may_retry(queue, failure, attempt):
            self._ends.park(
                *(queue, entry.envelope, "", failure), attempt=attempt, sequence=entry.sequence
            )

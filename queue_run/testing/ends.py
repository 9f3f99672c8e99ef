"""The ends of jobs: the messages to their users, and the dead letters."""

from queue_run.testing.jobs import KeptJob
from queue_run.testing.process import InProcessRuntime
from worker.application.routes import JobHandler
from worker.jobs import ends
from worker.jobs.attempts import may_retry


class Ends:
    """The end of an attempt, as in a worker, except that no job is retried by itself."""

    def __init__(self, runtime: InProcessRuntime) -> None:
        self._ends = ends.Ends(runtime.settings, runtime.attempts)

    def cancelled(self, handler: JobHandler, entry: KeptJob) -> None:
        """Tell the user that the job was cancelled, before it ran or meanwhile."""
        self._ends.tell(handler, entry.stored, "cancelled")

    def finished(self, job_handler: JobHandler, entry: KeptJob) -> None:
        """Tell the user that the job has finished."""
        self._ends.tell(job_handler, entry.stored, "finished")

    def failed(
        self, handler: JobHandler, entry: KeptJob, attempt: int, failure: BaseException
    ) -> None:
        """Keep the job as a dead letter if a worker would not make another attempt."""
        if not may_retry(handler, failure, attempt):
            self._ends.park(
                *(handler, entry.stored, "", failure), attempt=attempt, sequence=entry.sequence
            )

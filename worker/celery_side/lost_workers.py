"""Jobs whose process died: what the parent of a prefork pool does about them."""

import logging
from collections.abc import Callable
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request

from queue_run.errors import JobStoreUnavailable
from queue_run.process import runtime
from worker.jobs.attempts import token_prefix

log = logging.getLogger(__name__)

#: What Celery gives for a task whose process has ended, or is being killed at its time limit.
LOST = (WorkerLostError, TimeLimitExceeded, SystemExit, KeyboardInterrupt)


class JobRequest(Request):
    """Celery's own, for tasks that are handed out again when they are lost.

    The lease of an attempt that has died with its process is ended first, so that the next one
    need not wait until it expires.
    """

    #: Called once, with this request, when its message is settled (`worker.jobs.drain_gate`).
    when_settled: Callable[[Any], None] | None = None

    def acknowledge(self) -> None:
        super().acknowledge()
        self._settled()

    def reject(self, requeue: bool = False) -> None:
        super().reject(requeue=requeue)
        self._settled()

    def _settled(self) -> None:
        told, self.when_settled = self.when_settled, None
        if told is not None:
            told(self)

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        # Pools wrap what was raised in a process.
        raised = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(raised, LOST):
            self._release()
            # Celery's versions differ in what they do at a time limit.
            self.reject(requeue=True)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _release(self) -> None:
        process = getattr(self, "worker_pid", None)
        if process is None:
            return
        try:
            runtime.current().attempts.release(self.id, token_prefix(process))
        except JobStoreUnavailable as error:
            log.warning("the lease of %s is left to expire: %s", self.id, error)

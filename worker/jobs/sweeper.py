"""Looking after jobs whose time has come: retries that are due, groups that nobody drains."""

import logging
from collections.abc import Callable
from functools import partial

from queue_run.contracts.manifest import QueueFacts
from queue_run.errors import InfrastructureError
from queue_run.jobs.delays import Delays, DueJob
from queue_run.jobs.groups import Group, Groups
from queue_run.jobs.pushing import JobPusher
from queue_run.settings import Settings
from queue_run.storage.scripts import Store
from queue_run.threads.caretaker import Caretaker
from worker.application.routes import Routes
from worker.ending import end_worker

log = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL = 0.5
#: Jobs, and groups, that are taken at once.
AT_ONCE = 100


class Sweeper:
    """A thread of every worker that serves jobs; several of them share the work."""

    def __init__(self, settings: Settings, routes: Routes, pusher: JobPusher) -> None:
        self._queues = routes.queues
        self._pusher = pusher
        self._store = Store(settings, patience=settings.publish_timeout)
        self._delays = Delays(self._store)
        self._groups = Groups(self._store, lease=settings.lease)
        self._thread = Caretaker(
            self._sweep_all,
            INTERVAL,
            name="queue-run-sweeper",
            purpose="looking for jobs that are due",
            on_loss=end_worker,
            waits_first=True,
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()
        self._store.close()

    def _sweep_all(self) -> None:
        try:
            while self._sweep() and not self._thread.stopping:
                pass
        except InfrastructureError as error:
            log.warning("jobs that are due wait for the next look: %s", error)

    def _sweep(self) -> bool:
        """Send what is due; whether there may be more."""
        due = self._delays.take_due(AT_ONCE)
        for due_job in due:
            self._apart(partial(self._send, due_job), f"the delayed job {due_job.job.id}")
        groups = self._groups.take_due(AT_ONCE)
        for group in groups:
            self._apart(partial(self.send_drain, group), f"a drain for the group {group.name}")
        return len(due) == AT_ONCE or len(groups) == AT_ONCE

    def _apart(self, send: Callable[[], None], what: str) -> None:
        """Send something whose failure must not keep the others from being sent."""
        try:
            send()
        except InfrastructureError:
            raise
        except Exception:
            log.exception("%r could not be sent, and is tried again later", what)

    def _send(self, due_job: DueJob) -> None:
        self._pusher.send(due_job.job, self._facts(due_job.job.queue), also_when_full=True)
        self._delays.done(due_job)

    def send_drain(self, group: Group) -> None:
        self._pusher.send_drain(group, self._facts(group.queue))

    def _facts(self, queue: str) -> QueueFacts | None:
        known = self._queues.get(queue)
        return known.facts if known is not None else None

"""The Celery side of the worker, kept thin: tasks that hand over to the intake and the jobs."""

import logging
import math
import mmap
import threading
import time
from typing import Any

import msgspec
from billiard import common as billiard
from celery import Celery, Task
from celery.exceptions import Reject
from kombu import Message

from queue_run.application.requests import SentMessage
from queue_run.broker import unreadable
from queue_run.contracts.envelopes import decode_batch
from queue_run.contracts.ids import id_of_user, text_id
from queue_run.contracts.keys import DRAIN_TASK, JOB_TASK_PREFIX, REQUESTS_TASK
from queue_run.errors import InfrastructureError, InvalidEnvelope, InvalidName
from queue_run.jobs.delays import Delays
from queue_run.jobs.groups import Group
from queue_run.jobs.stored import HEADER, JobFacts, StoredJob
from queue_run.process import runtime
from queue_run.threads.forks import HomeProcess
from worker.application.routes import JobHandler, Routes
from worker.celery_side.requests_strategy import strategy_for
from worker.jobs.attempts import DRAIN_TIME, SHARED_DRAIN_TIME, Jobs
from worker.jobs.leases import OVERTIME
from worker.running.intake import STALLED, Intake

log = logging.getLogger(__name__)

#: The class of Celery's requests for jobs, by name: prefork workers make it in their parent.
REQUEST_CLASS = "worker.celery_side.lost_workers:JobRequest"
#: Seconds before a task that cannot be done goes back to the broker.
HANDED_BACK_PAUSE = 1.0
#: Seconds after which a job whose queue has no file here comes again.
UNKNOWN_DELAY = 30.0


class Process:
    """The intake and the jobs of this process; a forked child makes its own."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._intake: Intake | None = None
        self._jobs: Jobs | None = None
        self._lock = threading.Lock()
        self._origin = HomeProcess()
        #: Whether requests wait for what runs in the only place for tasks that this worker has.
        self.share_time = False
        # Shared with the children: the parent alone hears that the worker is to end.
        self._stopping = mmap.mmap(-1, 1)

    @property
    def intake(self) -> Intake:
        with self._own_lock():
            return self._made_intake()

    @property
    def jobs(self) -> Jobs:
        with self._own_lock():
            if self._jobs is None:
                self._jobs = Jobs(
                    runtime.current().settings,
                    lambda: self.intake,
                    stopping=lambda: self._stopping[0] != 0,
                    dying=_told_to_end,
                    send_drain=self._send_drain,
                    around=self._routes.around,
                    drain_time=SHARED_DRAIN_TIME if self.share_time else None,
                )
            return self._jobs

    def sent(self, message: SentMessage) -> None:
        """Tell the application's middleware of a message that a job has sent."""
        self.intake.runner.sent(message)

    def stop_soon(self) -> None:
        """Tell the jobs of this process and its children, by their signal, to come to an end."""
        self._stopping[0] = 1

    def takes(self) -> bool:
        """Tell whether the handlers of this process let each other run; safe from any thread."""
        intake = self._intake
        return intake is None or intake.stalled < STALLED

    def wind_down(self) -> None:
        """Finish what this process has accepted, and send what waits."""
        if self._intake is not None and self._origin.is_here:
            self._intake.wind_down(runtime.current().settings.shutdown_grace)
            self._intake = None
        if self._jobs is not None and self._origin.is_here:
            self._jobs.close()
            self._jobs = None
        runtime.current().close()

    def _own_lock(self) -> threading.Lock:
        if not self._origin.is_here:
            # A fork has copied the parent's lock, which one of its threads may have held.
            self._lock = threading.Lock()
            self._intake = None
            self._jobs = None
            self._origin = HomeProcess()
        return self._lock

    def _made_intake(self) -> Intake:
        if self._intake is None:
            self._intake = Intake(self._routes, runtime.current())
        return self._intake

    def _send_drain(self, group: Group) -> None:
        facts = self._routes.queues[group.queue].facts
        runtime.current().job_pusher.send_drain(group, facts)


def _told_to_end() -> bool:
    """Tell whether this child of a prefork pool has had SIGTERM, which raises SystemExit in a
    job."""
    # Older versions of billiard do not tell.
    fired = getattr(billiard, "terminate_handler_fired", None)
    return fired is not None and bool(fired())


def register(app: Celery, routes: Routes, process: Process) -> None:
    """Make the application's queues, and the tasks that carry requests and drain groups, Celery
    tasks."""

    def take(batch: Any) -> None:
        process.intake.accept(decode_batch(batch))

    def requests(batch: Any) -> None:
        try:
            take(batch)
        except InvalidEnvelope as error:
            _set_aside(str(batch), "a batch of requests", error)

    strategy = staticmethod(strategy_for(take))
    app.task(name=REQUESTS_TASK, ignore_result=True, shared=False, Strategy=strategy)(requests)

    for queue in routes.queues.values():
        _register_queue(app, queue, process)
    _register_drain(app, routes, process)


def _register_queue(app: Celery, handler: JobHandler, process: Process) -> None:
    def run(task: "Task[Any, Any]", *arguments: Any, **named: Any) -> None:
        if len(arguments) + len(named) > 1 or named.keys() - {"payload"}:
            reason = "a job has one argument, its payload"
            _set_aside(repr((arguments, named)), f"a job of {handler.name}", reason)
            return
        [payload] = arguments or named.values() or [None]
        facts = _facts(task.request.headers)
        job = StoredJob(
            id=str(task.request.id), queue=handler.name, payload=payload, facts=facts or JobFacts()
        )
        try:
            process.jobs.run(handler, job)
        except Exception as error:
            raise _handed_back(f"{handler.name}[{job.id}]", error) from error

    _register_durable(app, JOB_TASK_PREFIX + handler.name, run, time_limit=handler.timeout)


def _register_drain(app: Celery, routes: Routes, process: Process) -> None:
    def drain(task: "Task[Any, Any]", queue: str, group: str) -> None:
        handler = routes.queues.get(queue)
        if handler is None:
            # Its jobs stay where they are, for a worker that has the queue's file.
            name = str(queue)[: unreadable.LONGEST_SHOWN]
            log.error("jobs wait in the queue %s, which has no file here", name)
            return
        try:
            group = text_id("group id", group, limit=None)
        except InvalidName as error:
            # Nobody can have pushed a job to it.
            _set_aside(repr((queue, group)), "the drains of groups", error)
            return
        try:
            process.jobs.drain(handler, group)
        except Exception as error:
            raise _handed_back(f"the group {group} of {queue}", error) from error

    # Also of queues that are FIFO no more: their groups may still hold jobs.
    longest = max((queue.timeout for queue in routes.queues.values()), default=0.0)
    _register_durable(app, DRAIN_TASK, drain, time_limit=DRAIN_TIME + longest)


def _register_durable(app: Celery, name: str, function: Any, *, time_limit: float) -> None:
    """Register a task that is acknowledged at its end, and not before.

    Args:
        time_limit: seconds after which, and some more, a prefork worker kills its process.
    """
    app.task(
        name=name,
        bind=True,
        shared=False,
        ignore_result=True,
        # A job is lost with its worker unless it is acknowledged at its end.
        acks_late=True,
        reject_on_worker_lost=True,
        acks_on_failure_or_timeout=False,
        # Code that even the limit of the job itself has not stopped.
        time_limit=math.ceil(time_limit + OVERTIME),
        Request=REQUEST_CLASS,
    )(function)


def _set_aside(data: str, source: str, reason: object) -> None:
    here = runtime.current()
    unreadable.set_aside(
        here.store.client, here.keys.unreadable, data, source=source, reason=reason
    )


def _handed_back(what: str, error: Exception) -> Reject:
    """Make the error for a task that cannot do its work: the broker hands the task out again.

    The broker does so at once, so this blocks for `HANDED_BACK_PAUSE` seconds first.
    """
    if isinstance(error, InfrastructureError):
        log.error("%s goes back to the broker: %s", what, error)
    else:
        log.error("%s goes back to the broker, it failed unexpectedly", what, exc_info=error)
    time.sleep(HANDED_BACK_PAUSE)
    # As text: an error that cannot be pickled would not reach the parent of a prefork pool, and
    # the job be dropped.
    return Reject(repr(error), requeue=True)


def keep_unknown(message: Message, name: str, job_id: str) -> None:
    """Let a job whose queue has no file here come again later, to a worker that may have it.

    Celery has dropped it by then. While a new version of an application is brought out, its
    workers have other files than those of the old one.
    """
    if not name.startswith(JOB_TASK_PREFIX):
        return
    queue = name.removeprefix(JOB_TASK_PREFIX)
    body = message.payload
    arguments = body.get("args") if isinstance(body, dict) else body[0]
    payload = arguments[0] if arguments else None
    facts = _facts(message.headers) or JobFacts()
    job = StoredJob(id=job_id, queue=queue, payload=payload, facts=facts)
    Delays(runtime.current().store).add(job, UNKNOWN_DELAY)
    log.warning("%s[%s] comes again in %g s: no file here", queue, job_id, UNKNOWN_DELAY)


def _facts(headers: Any) -> JobFacts | None:
    """Read the facts that `queue_run.queues` sent along; None for a task that came another way."""
    found = headers.get(HEADER) if isinstance(headers, dict) else None
    if found is None:
        return None
    try:
        if isinstance(found, str):
            facts = msgspec.json.decode(found, type=JobFacts)
        else:
            facts = msgspec.convert(found, JobFacts)
        # A user without an id is nobody that a job could belong to.
        id_of_user(facts.user)
    except (TypeError, ValueError) as error:
        log.warning("a job's header cannot be read: %s", error)
        return None
    return facts

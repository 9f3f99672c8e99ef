"""The Celery side of the worker, kept thin: tasks that hand over to the intake and the runner."""

import inspect
import logging
import math
import os
import threading
import time
from typing import Any

import msgspec
from celery import Celery, Task

from queue_run import runtime
from queue_run.envelopes import decode_batch
from queue_run.errors import InvalidEnvelope
from queue_run.keys import JOB_TASK_PREFIX, REQUESTS_TASK
from queue_run.queues import JOB_HEADER, JobFacts
from queue_run.requests import SentMessage, Signal
from worker.intake import Intake
from worker.routes import JobHandler, Routes
from worker.runner import Job, finish_job, run_async_job, run_sync_job

log = logging.getLogger(__name__)


class Process:
    """What this process runs; a forked child makes its own."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._intake: Intake | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @property
    def intake(self) -> Intake:
        if self._pid != os.getpid():
            # A fork has copied the parent's lock, which one of its threads may have held.
            self._lock = threading.Lock()
            self._intake = None
            self._pid = os.getpid()
        with self._lock:
            if self._intake is None:
                self._intake = Intake(self._routes, runtime.current())
            return self._intake

    def sent(self, message: SentMessage) -> None:
        """Tell the application's middleware of a message that a job has sent."""
        self.intake.runner.sent(message)

    def drain(self) -> None:
        """Finish what this process has accepted, and send what waits."""
        if self._intake is not None and self._pid == os.getpid():
            self._intake.drain(runtime.current().settings.shutdown_grace)
            self._intake = None
        runtime.current().close()


def register(app: Celery, routes: Routes, process: Process) -> None:
    """Make the application's queues, and the task that carries requests, Celery tasks."""

    @app.task(name=REQUESTS_TASK, ignore_result=True, shared=False)
    def requests(batch: str) -> None:
        try:
            work = decode_batch(batch)
        except InvalidEnvelope as error:
            log.error("a batch of requests cannot be read: %s", error)
        else:
            process.intake.accept(work)

    for queue in routes.queues.values():
        _register_job(app, queue, process)


def _register_job(app: Celery, queue: JobHandler, process: Process) -> None:
    def run(task: "Task[Any, Any]", payload: Any = None) -> None:
        job = _job(task, queue, payload)
        started = time.monotonic()
        signal = Signal()
        if queue.is_async:
            intake = process.intake
            intake.background.submit(run_async_job(intake.runner, job, signal)).result()
        else:
            # Asks a job to stop that nothing can make stop: in a thread.
            timer = threading.Timer(queue.timeout, signal.set)
            timer.daemon = True
            timer.start()
            try:
                result = run_sync_job(job, signal)
            finally:
                timer.cancel()
            if inspect.isawaitable(result):
                intake = process.intake
                finish = finish_job(intake.runner, job, lambda: result, signal)
                intake.background.submit(finish).result()
        log.info("%s[%s] finished in %.3f s", queue.name, job.id, time.monotonic() - started)

    task = app.task(
        name=JOB_TASK_PREFIX + queue.name,
        bind=True,
        shared=False,
        ignore_result=True,
        # A job is lost with its worker unless it is acknowledged at its end.
        acks_late=True,
        reject_on_worker_lost=True,
    )(run)
    if not queue.is_async:
        # Stops a plain job in a prefork worker; asynchronous ones have the runner's limit.
        task.soft_time_limit = math.ceil(queue.timeout)


def _job(task: "Task[Any, Any]", queue: JobHandler, payload: Any) -> Job:
    request = task.request
    facts = _facts(request.headers)
    return Job(
        id=str(request.id),
        queue=queue,
        payload=payload,
        user=facts.user if facts else None,
        queued_at=facts.queued_at if facts else None,
        attempt=int(request.retries) + 1,
    )


def _facts(headers: dict[str, Any] | None) -> JobFacts | None:
    """What `queue_run.queues` sent along; None for a task that came another way."""
    found = (headers or {}).get(JOB_HEADER)
    if found is None:
        return None
    try:
        return msgspec.convert(found, JobFacts)
    except msgspec.ValidationError as error:
        log.warning("a job's header cannot be read: %s", error)
        return None

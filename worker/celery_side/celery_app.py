"""The worker put together: `celery -A worker worker`."""

import logging
import os
import sys
from typing import Any

from celery import Celery, signals

from queue_run import logs
from queue_run.application import hidden_modules
from queue_run.broker.celery_app import create_celery, is_redis, jobs_queue
from queue_run.contracts.keys import DRAIN_TASK, JOB_TASK_PREFIX, REQUESTS_TASK
from queue_run.errors import ApplicationError, SettingsError, UsageError
from queue_run.process import runtime
from queue_run.settings import PROCESS_VARIABLE, Settings
from worker.application import load_failures, loader
from worker.application.routes import Routes
from worker.calls.around import Around
from worker.celery_side.beat import Beat
from worker.celery_side.celery_repairs import repair_celery
from worker.celery_side.life import Life, exit_saying
from worker.celery_side.own_logging import OwnLogging
from worker.celery_side.tasks import Process, register

log = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def create_app() -> Celery:
    """The Celery application of the application in the settings' folder.

    An entry point: it reads the environment, and ends the process with exit code 2 and a message
    when the settings or the application cannot be used.
    """
    try:
        settings = Settings.from_env(os.environ)
        logs.prepare(settings.secrets)
        app = create_celery(settings)
        # Plain Celery tasks of the application belong to this Celery application.
        app.set_current()
        app.set_default()
        runtime.configure(settings, celery=app)
        own_logging = OwnLogging(_quiet_celery)
        if found := hidden_modules.problems(os.curdir, settings.app_path):
            raise ApplicationError(found)
        routes = loader.load(settings.app_path)
        _check_visibility(settings, routes)
    except ApplicationError as error:
        load_failures.tell(settings, error)
        exit_saying(str(error))
    except UsageError as error:
        exit_saying(str(error))
    app.conf.update(
        worker_hijack_root_logger=False,
        worker_consumer="worker.celery_side.consumer:Consumer",
        beat_scheduler="worker.celery_side.beat:Scheduler",
        worker_log_format=LOG_FORMAT,
        worker_task_log_format=LOG_FORMAT,
    )
    _know_queues(app, routes)
    # Celery's own place for it is a cached property.
    app.__dict__["Beat"] = app.subclass_with_self(Beat)
    process = Process(routes)
    if routes.hooks.sent is not None:
        runtime.current().on_sent = process.sent
    register(app, routes, process)
    if not routes.around.idle:
        _care_for_plain_tasks(app, routes.around)
    Life(app, settings, routes, process).connect()
    if own_logging.settle():
        _connect_readiness()
    repair_celery()
    return app


def _check_visibility(settings: Settings, routes: Routes) -> None:
    """
    Raises:
        SettingsError: when Redis would hand out jobs again that still run.
    """
    visibility = settings.visibility_timeout
    problems = [
        f"QUEUE_RUN_VISIBILITY_TIMEOUT={visibility:g}: {queue.file} says that a job may take "
        f"{queue.timeout:g} seconds, and Redis would hand it out a second time while it runs: "
        f"set QUEUE_RUN_VISIBILITY_TIMEOUT above {queue.timeout:g}, or lower the file's "
        "Config(timeout=…)"
        for queue in routes.queues.values()
        if is_redis(settings) and queue.timeout >= visibility
    ]
    if problems:
        raise SettingsError(problems)


def _know_queues(app: Celery, routes: Routes) -> None:
    """Tell Celery of the Celery queues that the files name, and of the schedules; and this process
    of its own queues."""
    for name in sorted({job.celery_queue for job in routes.queues.values() if job.celery_queue}):
        app.conf.task_queues.append(jobs_queue(app, name))
    app.conf.task_routes |= {
        JOB_TASK_PREFIX + job.name: {"queue": jobs_queue(app, job.celery_queue).name}
        for job in routes.queues.values()
    }
    app.conf.beat_schedule = {
        job.name: {"task": JOB_TASK_PREFIX + job.name, "schedule": job.schedule.celery()}
        for job in routes.queues.values()
        if job.schedule is not None
    }
    runtime.current().local_queues = routes.local_queues


def _care_for_plain_tasks(app: Celery, around: Around) -> None:
    """Do around the application's own Celery tasks what is done around handlers and jobs."""
    # With `delay_on_commit`, as Celery's tasks in Django have it.
    app.task_cls = "celery.contrib.django.task:DjangoTask"

    def look_after(sender: Any, **_: Any) -> None:
        ours = sender.name in (REQUESTS_TASK, DRAIN_TASK) or sender.name.startswith(JOB_TASK_PREFIX)
        if not ours and not sender.request.is_eager:
            with around.call():
                pass

    signals.task_prerun.connect(look_after, weak=False)
    signals.task_postrun.connect(look_after, weak=False)


def _quiet_celery() -> None:
    # Celery's two lines for every task would be two lines for every batch of requests.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def _connect_readiness() -> None:
    """Write a line when this process is ready, for `queue-run start`, which reads the output.

    The line does not depend on the application's logging.
    """
    if PROCESS_VARIABLE not in os.environ:
        return

    def worker_ready(sender: Any, **_: Any) -> None:
        sys.stderr.write(f"{sender.hostname} ready.\n")

    def beat_starts(**_: Any) -> None:
        sys.stderr.write("beat: Starting...\n")

    signals.worker_ready.connect(worker_ready, weak=False)
    signals.beat_init.connect(beat_starts, weak=False)

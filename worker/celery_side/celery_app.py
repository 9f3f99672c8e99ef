"""The worker put together: `celery -A worker worker`."""

import logging
import os
import socket
import sys
import time
from typing import Any, NoReturn

import redis
from celery import Celery, signals
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from queue_run import logs
from queue_run.application import hidden_modules
from queue_run.broker.celery_app import create_celery, is_redis, jobs_queue
from queue_run.contracts.keys import DRAIN_TASK, JOB_TASK_PREFIX, REQUESTS_TASK, Keys
from queue_run.errors import ApplicationError, SettingsError, UsageError
from queue_run.process import runtime
from queue_run.settings import PROCESS_VARIABLE, Settings, without_password
from queue_run.storage.patience import LONGEST_ANSWER, is_unready, redis_options, watched_client
from worker.announcer import Announcer
from worker.application import load_failures, loader
from worker.application.routes import Routes
from worker.calls.around import Around
from worker.celery_side import semaphores
from worker.celery_side.beat import Beat
from worker.celery_side.celery_repairs import repair_celery
from worker.celery_side.consumer import has_time_for_requests
from worker.celery_side.own_logging import OwnLogging
from worker.celery_side.tasks import Process, keep_unknown, register
from worker.jobs.sweeper import Sweeper
from worker.presence import PresenceWatcher
from worker.timekeeper import Timekeeper

log = logging.getLogger(__name__)

#: Exit code for what the author or the deployment must change.
EXIT_USAGE = 2
#: Exit code for what may work later, unchanged: Redis does not answer.
EXIT_FAILURE = 1

#: Seconds between two looks at a Redis that does not do its part.
UNREADY_PAUSE = 2.0

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
        _exit(str(error))
    except UsageError as error:
        _exit(str(error))
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
    _connect_signals(app, settings, routes, process)
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
    """Under `queue-run start`, which reads in the output when a process is ready: tell it in its
    own words, whatever the application's logging makes of them."""
    if PROCESS_VARIABLE not in os.environ:
        return

    def worker_ready(sender: Any, **_: Any) -> None:
        sys.stderr.write(f"{sender.hostname} ready.\n")

    def beat_starts(**_: Any) -> None:
        sys.stderr.write("beat: Starting...\n")

    signals.worker_ready.connect(worker_ready, weak=False)
    signals.beat_init.connect(beat_starts, weak=False)


def _connect_signals(app: Celery, settings: Settings, routes: Routes, process: Process) -> None:
    """Tie the life of our parts to the worker's. Signals hold functions weakly, hence `weak`."""
    announcers: list[Announcer] = []
    sweepers: list[Sweeper] = []
    watchers: list[PresenceWatcher] = []

    def check_system(sender: Any, **_: Any) -> None:
        if problem := semaphores.problem(sender):
            _exit(problem)

    def check_redis(**_: Any) -> None:
        _require_redis(settings)

    def quiet_beat(**_: Any) -> None:
        # In development it runs within a worker, also where nothing is scheduled.
        if not app.conf.beat_schedule:
            logging.getLogger("celery.beat").setLevel(logging.WARNING)

    def keep_time_of_beat(**_: Any) -> None:
        _keep_time_of_beat(settings)

    def announce(sender: Any, **_: Any) -> None:
        consumes = set(app.amqp.queues.consume_from)
        sockets_queue = Keys(settings.namespace).sockets_queue
        serves_sockets = sockets_queue in consumes
        announcer = Announcer(
            settings,
            routes.manifest,
            serves_sockets=serves_sockets,
            clock=runtime.current().clock,
            name=f"worker {sender.hostname}",
            takes=lambda: sender.takes and process.takes(),
        )
        load_failures.forget(settings)
        announcer.start()
        announcers.append(announcer)
        if serves_sockets and routes.watches_users:
            watcher = PresenceWatcher(settings, routes, lambda: process.intake)
            watcher.start()
            watchers.append(watcher)
        if consumes - {sockets_queue}:
            sweeper = Sweeper(settings, routes, runtime.current().job_pusher)
            sweeper.start()
            sweepers.append(sweeper)

    def stop_soon(**_: Any) -> None:
        process.stop_soon()

    def shut_down(**_: Any) -> None:
        for sweeper in sweepers:
            sweeper.stop()
        for watcher in watchers:
            watcher.stop()
        process.drain()
        for announcer in announcers:
            announcer.stop()
        log.info("everything that was accepted is answered")

    def shut_down_child(**_: Any) -> None:
        process.drain()

    def know_pool(instance: Any, **_: Any) -> None:
        process.share_time = not has_time_for_requests(app, instance)

    def keep(message: Any, name: str, id: str, **_: Any) -> None:
        keep_unknown(message, name, id)

    signals.task_unknown.connect(keep, weak=False)
    signals.celeryd_after_setup.connect(know_pool, weak=False)
    signals.worker_init.connect(check_system, weak=False)
    signals.worker_init.connect(check_redis, weak=False)
    signals.worker_init.connect(quiet_beat, weak=False)
    signals.beat_init.connect(keep_time_of_beat, weak=False)
    signals.worker_ready.connect(announce, weak=False)
    signals.worker_shutting_down.connect(stop_soon, weak=False)
    signals.worker_shutdown.connect(shut_down, weak=False)
    signals.worker_process_shutdown.connect(shut_down_child, weak=False)


def _require_redis(settings: Settings) -> None:
    """End a worker that would start without its channel; wait for one that is not ready yet."""
    while (what := _unready(settings)) is not None:
        sys.stderr.write(f"Redis does not do its part, this worker waits for it: {what}\n")
        sys.stderr.flush()
        time.sleep(UNREADY_PAUSE)


def _unready(settings: Settings) -> str | None:
    """What a Redis says that does not do its part now."""
    limit = settings.publish_timeout
    try:
        with redis.Redis.from_url(
            settings.redis_url,
            **redis_options(settings.redis_url, timeout=limit, connect_timeout=limit),
        ) as client:
            client.ping()
            runtime.current().clock.measure(client.time)
    except (RedisError, OSError) as error:
        if is_unready(error):
            return str(error)
        url = without_password(settings.redis_url)
        _exit(f"Redis at {url} does not answer ({error}): start it, or set REDIS_URL", EXIT_FAILURE)
    return None


def _keep_time_of_beat(settings: Settings) -> None:
    """Beat leaves no heartbeat of its own, and it alone goes by the clock of its machine."""
    client = watched_client(
        settings.redis_url,
        timeout=LONGEST_ANSWER,
        connect_timeout=LONGEST_ANSWER,
        retry=Retry(NoBackoff(), 1),
    )
    timekeeper = Timekeeper(
        client,
        Keys(settings.namespace),
        runtime.current().clock,
        name=f"beat on {socket.gethostname()}",
        expiry=settings.heartbeat_expiry,
    )
    timekeeper.run_in_background(settings.heartbeat_interval)


def _exit(message: str, code: int = EXIT_USAGE) -> NoReturn:
    sys.stderr.write(f"{logs.without_secrets(message)}\n")
    sys.stderr.flush()
    sys.exit(code)

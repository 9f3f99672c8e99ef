"""The worker put together: `celery -A worker worker`."""

import logging
import os
import sys
from typing import Any, NoReturn

import redis
from celery import Celery, signals
from redis.exceptions import RedisError

from queue_run import runtime
from queue_run.celery_app import create_celery
from queue_run.errors import UsageError
from queue_run.keys import Keys
from queue_run.settings import Settings, without_password
from worker import loader
from worker.announcer import Announcer
from worker.routes import Routes
from worker.tasks import Process, register

log = logging.getLogger(__name__)

#: Exit code for what the author or the deployment must change.
EXIT_USAGE = 2

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def create_app() -> Celery:
    """The Celery application of the application in the settings' folder.

    An entry point: it reads the environment, and ends the process with exit code 2 and a message
    when the settings or the application cannot be used.
    """
    try:
        settings = Settings.from_env(os.environ)
        app = create_celery(settings)
        # Plain Celery tasks of the application belong to this Celery application.
        app.set_current()
        app.set_default()
        runtime.configure(settings, celery=app)
        routes = loader.load(settings.app_path)
    except UsageError as error:
        _exit(str(error))
    app.conf.update(
        worker_hijack_root_logger=True,
        worker_log_format=LOG_FORMAT,
        worker_task_log_format=LOG_FORMAT,
    )
    process = Process(routes)
    if routes.hooks.sent is not None:
        runtime.current().on_sent = process.sent
    register(app, routes, process)
    _connect_signals(app, settings, routes, process)
    return app


def _connect_signals(app: Celery, settings: Settings, routes: Routes, process: Process) -> None:
    """Tie the life of our parts to the worker's. Signals hold functions weakly, hence `weak`."""
    announcers: list[Announcer] = []

    def check_redis(**_: Any) -> None:
        _require_redis(settings)

    def quiet_celery(**_: Any) -> None:
        # Celery's two lines for every task would be two lines for every batch of requests.
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(logging.WARNING)

    def announce(**_: Any) -> None:
        consumes = app.amqp.queues.consume_from
        serves_sockets = Keys(settings.namespace).sockets_queue in consumes
        announcer = Announcer(settings, routes.manifest, serves_sockets=serves_sockets)
        announcer.start()
        announcers.append(announcer)

    def shut_down(**_: Any) -> None:
        process.drain()
        for announcer in announcers:
            announcer.stop()
        log.info("everything that was accepted is answered")

    def shut_down_child(**_: Any) -> None:
        process.drain()

    signals.worker_init.connect(check_redis, weak=False)
    signals.after_setup_logger.connect(quiet_celery, weak=False)
    signals.worker_ready.connect(announce, weak=False)
    signals.worker_shutdown.connect(shut_down, weak=False)
    signals.worker_process_shutdown.connect(shut_down_child, weak=False)


def _require_redis(settings: Settings) -> None:
    """End a worker that would start without its channel."""
    try:
        with redis.Redis.from_url(
            settings.redis_url,
            socket_timeout=settings.publish_timeout,
            socket_connect_timeout=settings.publish_timeout,
        ) as client:
            client.ping()
    except (RedisError, OSError) as error:
        url = without_password(settings.redis_url)
        _exit(f"Redis at {url} does not answer ({error}): start it, or set REDIS_URL")


def _exit(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
    sys.exit(EXIT_USAGE)

"""The life of our parts, tied to that of Celery's worker, beat and pool by its signals."""

import logging
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
from queue_run.contracts.keys import Keys
from queue_run.process import runtime
from queue_run.settings import Settings, without_password
from queue_run.storage.patience import LONGEST_ANSWER, is_unready, redis_options, watched_client
from worker.announcer import Announcer
from worker.application import load_failures
from worker.application.routes import Routes
from worker.celery_side import semaphores
from worker.celery_side.consumer import has_time_for_requests
from worker.celery_side.tasks import Process, keep_unknown
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


class Life:
    """The steps when a worker, a child of its pool, or beat starts and stops."""

    def __init__(self, app: Celery, settings: Settings, routes: Routes, process: Process) -> None:
        self._app = app
        self._settings = settings
        self._routes = routes
        self._process = process
        self._announcer: Announcer | None = None
        self._watcher: PresenceWatcher | None = None
        self._sweeper: Sweeper | None = None

    def connect(self) -> None:
        """Have Celery's signals call this; for as long as the process lives."""
        for signal, receiver in (
            (signals.task_unknown, self._keep_unknown),
            (signals.celeryd_after_setup, self._know_pool),
            (signals.worker_init, self._check_system),
            (signals.worker_init, self._check_redis),
            (signals.worker_init, self._quiet_beat),
            (signals.beat_init, self._keep_time_of_beat),
            (signals.worker_ready, self._begin),
            (signals.worker_shutting_down, self._stop_soon),
            (signals.worker_shutdown, self._end),
            (signals.worker_process_shutdown, self._end_child),
        ):
            # Signals hold what they call weakly, else.
            signal.connect(receiver, weak=False)

    # The start.

    def _know_pool(self, instance: Any, **_: Any) -> None:
        self._process.share_time = not has_time_for_requests(self._app, instance)

    def _check_system(self, sender: Any, **_: Any) -> None:
        if problem := semaphores.problem(sender):
            exit_saying(problem)

    def _check_redis(self, **_: Any) -> None:
        require_redis(self._settings)

    def _quiet_beat(self, **_: Any) -> None:
        # In development it runs within a worker, also where nothing is scheduled.
        if not self._app.conf.beat_schedule:
            logging.getLogger("celery.beat").setLevel(logging.WARNING)

    def _keep_time_of_beat(self, **_: Any) -> None:
        keep_time_of_beat(self._settings)

    def _begin(self, sender: Any, **_: Any) -> None:
        """Start the caretakers of what this worker serves."""
        consumes = set(self._app.amqp.queues.consume_from)
        sockets_queue = Keys(self._settings.namespace).sockets_queue
        serves_sockets = sockets_queue in consumes
        self._announce(sender, serves_sockets=serves_sockets)
        if serves_sockets and self._routes.watches_users:
            self._watcher = PresenceWatcher(
                self._settings, self._routes, lambda: self._process.intake
            )
            self._watcher.start()
        if consumes - {sockets_queue}:
            pusher = runtime.current().job_pusher
            self._sweeper = Sweeper(self._settings, self._routes, pusher)
            self._sweeper.start()

    def _announce(self, consumer: Any, *, serves_sockets: bool) -> None:
        self._announcer = Announcer(
            self._settings,
            self._routes.manifest,
            serves_sockets=serves_sockets,
            clock=runtime.current().clock,
            name=f"worker {consumer.hostname}",
            takes=lambda: consumer.takes and self._process.takes(),
        )
        load_failures.forget(self._settings)
        self._announcer.start()

    # What comes that nobody knows.

    def _keep_unknown(self, message: Any, name: str, id: str, **_: Any) -> None:
        keep_unknown(message, name, id)

    # The end.

    def _stop_soon(self, **_: Any) -> None:
        self._process.stop_soon()

    def _end(self, **_: Any) -> None:
        if self._sweeper is not None:
            self._sweeper.stop()
        if self._watcher is not None:
            self._watcher.stop()
        self._process.wind_down()
        if self._announcer is not None:
            self._announcer.stop()
        log.info("everything that was accepted is answered")

    def _end_child(self, **_: Any) -> None:
        self._process.wind_down()


def require_redis(settings: Settings) -> None:
    """End a worker that would start without its channel; wait for one that is not ready yet."""
    while (what := _unready(settings)) is not None:
        sys.stderr.write(f"Redis does not do its part, this worker waits for it: {what}\n")
        sys.stderr.flush()
        time.sleep(UNREADY_PAUSE)


def _unready(settings: Settings) -> str | None:
    """The words of a Redis that does not do its part now."""
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
        exit_saying(
            f"Redis at {url} does not answer ({error}): start it, or set REDIS_URL", EXIT_FAILURE
        )
    return None


def keep_time_of_beat(settings: Settings) -> None:
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


def exit_saying(message: str, code: int = EXIT_USAGE) -> NoReturn:
    """End the process with a message on standard error."""
    sys.stderr.write(f"{logs.without_secrets(message)}\n")
    sys.stderr.flush()
    sys.exit(code)

"""The runtime of one process: its settings, its publisher, its Celery application.

Made at the first use, from the environment, so that a script or a view needs no set-up; entry
points that have settings already call `configure`. A forked child makes its own.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from queue_run.application.payloads import Validate
from queue_run.application.requests import SentMessage
from queue_run.channel.publisher import Publisher
from queue_run.contracts.keys import Keys
from queue_run.contracts.manifest import QueueFacts
from queue_run.jobs.attempt_records import Attempts
from queue_run.jobs.dead import DeadLetters
from queue_run.jobs.groups import Groups
from queue_run.jobs.known_queues import KnownQueues
from queue_run.jobs.pushing import JobPusher
from queue_run.jobs.stored import StoredJob
from queue_run.presence import Presence
from queue_run.settings import Settings
from queue_run.storage.clock import Clock
from queue_run.storage.scripts import Store

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

#: Seconds for which a process without heartbeats goes by what it has heard of Redis' clock.
CLOCK_AGE = 60.0
#: Threads that ask Redis for asynchronous code.
ASKERS = 4


@dataclass(frozen=True, slots=True)
class LocalQueue:
    """A queue whose file is loaded in this process."""

    facts: QueueFacts
    #: Raises ClientError for a payload that its handler does not take; None takes any.
    validate: Validate | None = None


class Runtime:
    """The parts that sending and pushing need, each opened when it is first used."""

    def __init__(self, settings: Settings, celery: "Celery | None" = None) -> None:
        self.settings = settings
        self.keys = Keys(settings.namespace)
        self._celery = celery
        #: `on_message_sent` of the application that is loaded in this process, if one is.
        self.on_sent: Callable[[SentMessage], None] | None = None
        #: The queues of the application that is loaded in this process, if one is.
        self.local_queues: dict[str, LocalQueue] = {}

    @cached_property
    def clock(self) -> Clock:
        """Redis' time."""
        return Clock()

    @cached_property
    def publisher(self) -> Publisher:
        settings = self.settings
        return Publisher(
            settings.redis_url,
            timeout=settings.publish_timeout,
            max_bytes=settings.stream_bytes,
            clock=self.clock,
        )

    @cached_property
    def known_queues(self) -> KnownQueues:
        return KnownQueues(self.settings)

    @property
    def celery(self) -> "Celery":
        if self._celery is None:
            # Celery takes longer to import than everything else here: a process that only sends
            # messages never waits for it.
            from queue_run.broker.celery_app import create_celery

            self._celery = create_celery(self.settings)
        return self._celery

    @cached_property
    def pusher(self) -> Executor:
        """One thread, so that jobs pushed from asynchronous code keep their order."""
        return ThreadPoolExecutor(1, thread_name_prefix="queue-run-push")

    @cached_property
    def asker(self) -> Executor:
        """Threads for questions of asynchronous code; no broker that is away holds them up."""
        return ThreadPoolExecutor(ASKERS, thread_name_prefix="queue-run-ask")

    @cached_property
    def presence(self) -> Presence:
        return Presence(self.store)

    @cached_property
    def store(self) -> Store:
        return Store(self.settings, patience=self.settings.publish_timeout, clock=self.clock)

    @cached_property
    def attempts(self) -> Attempts:
        settings = self.settings
        return Attempts(self.store, lease=settings.lease, visibility=settings.visibility_timeout)

    @cached_property
    def groups(self) -> Groups:
        return Groups(self.store, lease=self.settings.lease)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.store)

    @cached_property
    def job_pusher(self) -> JobPusher:
        return JobPusher(
            lambda: self.celery,
            self.groups,
            self.attempts,
            patience=self.settings.publish_timeout,
        )

    def measure_clock(self, *, after: float = CLOCK_AGE) -> None:
        """Ask Redis for its time, if this was not done for `after` seconds; blocks.

        Workers do so with each heartbeat. Without an answer the clock goes on as before.
        """
        if not self.clock.is_older_than(after):
            return
        try:
            self.clock.measure(self.store.client.time)
        except (RedisError, OSError) as error:
            log.info("Redis' clock cannot be asked for: %s", error)

    def queue(self, name: str) -> "LocalQueue | None":
        """Look up a queue in the application that is loaded here, else in what workers offer.

        Returns:
            None where no worker has ever said what it offers.

        Raises:
            UnknownQueue: when workers have said what they offer, and this queue is not among it.
        """
        if name in self.local_queues:
            return self.local_queues[name]
        facts = self.known_queues.facts(name)
        return None if facts is None else LocalQueue(facts)

    def push(self, job: StoredJob, facts: QueueFacts | None, dedupe: str | None) -> str:
        """Hand a job to its workers; blocks. See `JobPusher.push`."""
        return self.job_pusher.push(job, facts, dedupe)

    def close(self) -> None:
        """Send what waits and close what was opened."""
        for name in ("pusher", "asker"):
            if name in self.__dict__:
                self.__dict__.pop(name).shutdown()
        if "publisher" in self.__dict__:
            self.publisher.close()
            del self.__dict__["publisher"]
        if "store" in self.__dict__:
            self.store.close()
            for name in ("store", "presence", "attempts", "groups", "dead_letters", "job_pusher"):
                self.__dict__.pop(name, None)
        self.__dict__.pop("clock", None)

    def after_fork(self) -> "Runtime":
        """The same for a forked child, which must not share its parent's links and threads."""
        child = Runtime(self.settings, self._celery)
        child.on_sent = self.on_sent
        child.local_queues = self.local_queues
        if "clock" in self.__dict__:
            # Shared: a child leaves no heartbeat, and measures nothing itself.
            child.clock = self.clock
        return child


_lock = threading.RLock()
_current: Runtime | None = None
#: Blocks of `using` that are open.
_in_use = 0


def current() -> Runtime:
    """The runtime of this process, which is made by the first call.

    Raises:
        SettingsError: when it is made from an environment that cannot be used.
    """
    global _current
    if _current is None:
        with _lock:
            if _current is None:
                _current = Runtime(Settings.from_env(os.environ))
    return _current


def configure(settings: Settings, *, celery: "Celery | None" = None) -> Runtime:
    """Use these settings in this process, instead of the environment's.

    In a test that uses `queue_run.testing` it changes nothing: the code under test may bring
    settings that name a real Redis.
    """
    global _current
    with _lock:
        if _in_use and _current is not None:
            return _current
        if _current is not None:
            _current.close()
        _current = Runtime(settings, celery)
    return _current


@contextlib.contextmanager
def using(other: Runtime) -> Iterator[Runtime]:
    """Make it this process's runtime inside the block; after it, the one before is back."""
    global _current, _in_use
    with _lock:
        before, _current = _current, other
        _in_use += 1
    try:
        yield other
    finally:
        with _lock:
            _current = before
            _in_use -= 1
        other.close()


def _after_fork() -> None:
    global _current, _lock
    _lock = threading.RLock()
    if _current is not None:
        _current = _current.after_fork()


os.register_at_fork(after_in_child=_after_fork)

"""What one process has of queue_run: its settings, its publisher, its Celery application.

Made at the first use, from the environment, so that a script or a view needs no set-up; entry
points that have settings already call `configure`. A forked child makes its own.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

from queue_run.channel.publisher import Publisher
from queue_run.keys import Keys
from queue_run.known_queues import KnownQueues
from queue_run.settings import Settings

if TYPE_CHECKING:
    from celery import Celery


class Runtime:
    """Everything that sending and pushing need, opened when it is first used."""

    def __init__(self, settings: Settings, celery: "Celery | None" = None) -> None:
        self.settings = settings
        self.keys = Keys(settings.namespace)
        self._celery = celery

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(self.settings.redis_url, timeout=self.settings.publish_timeout)

    @cached_property
    def known_queues(self) -> KnownQueues:
        return KnownQueues(self.settings)

    @property
    def celery(self) -> "Celery":
        if self._celery is None:
            # Celery takes longer to import than everything else here: a process that only sends
            # messages never waits for it.
            from queue_run.celery_app import create_celery

            self._celery = create_celery(self.settings)
        return self._celery

    @cached_property
    def pusher(self) -> ThreadPoolExecutor:
        """One thread, so that jobs pushed from asynchronous code keep their order."""
        return ThreadPoolExecutor(1, thread_name_prefix="queue-run-push")

    def close(self) -> None:
        """Send what waits and close what was opened."""
        if "pusher" in self.__dict__:
            self.pusher.shutdown()
            del self.__dict__["pusher"]
        if "publisher" in self.__dict__:
            self.publisher.close()
            del self.__dict__["publisher"]

    def after_fork(self) -> "Runtime":
        """The same for a forked child, which must not share its parent's links and threads."""
        return Runtime(self.settings, self._celery)


_lock = threading.RLock()
_current: Runtime | None = None


def current() -> Runtime:
    """This process's runtime.

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
    """Use these settings in this process, instead of the environment's."""
    global _current
    with _lock:
        if _current is not None:
            _current.close()
        _current = Runtime(settings, celery)
    return _current


def _after_fork() -> None:
    global _current, _lock
    _lock = threading.RLock()
    if _current is not None:
        _current = _current.after_fork()


os.register_at_fork(after_in_child=_after_fork)

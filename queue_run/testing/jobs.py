"""Jobs that code under test has pushed."""

import collections
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from queue_run.errors import UnknownQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A job that was pushed. Two are equal when queue, payload and user are."""

    queue: str
    payload: Any
    #: The user whose request or job pushed it; None without.
    user: Any = None
    id: str = field(default="", compare=False)
    #: Unix time.
    queued_at: float | None = field(default=None, compare=False, repr=False)


class PushedJobs:
    """All of them, and which still wait to be run."""

    def __init__(self) -> None:
        #: What the application offers.
        self.queues: Collection[str] = ()
        self._all: list[Pushed] = []
        self._waiting: collections.deque[Pushed] = collections.deque()
        self._lock = threading.Lock()

    def add(self, job: Pushed) -> None:
        """
        Raises:
            UnknownQueue: when the application has no such queue.
        """
        self.check(job.queue)
        with self._lock:
            self._all.append(job)
            self._waiting.append(job)

    def check(self, queue: str) -> None:
        """
        Raises:
            UnknownQueue: when the application has no such queue.
        """
        if queue not in self.queues:
            raise UnknownQueue(queue, self.queues)

    def take(self) -> Pushed | None:
        """The next one to be run; None when all have been."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def clear(self) -> None:
        with self._lock:
            self._all.clear()
            self._waiting.clear()

    @property
    def all(self) -> list[Pushed]:
        with self._lock:
            return list(self._all)

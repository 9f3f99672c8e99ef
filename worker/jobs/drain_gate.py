"""Keeping one process of a prefork pool free of drains, where the pool answers requests too.

A drain runs the jobs of a FIFO group for seconds. Where drains held all processes, requests would
wait for them. So there are never as many drains as processes: further ones wait here, in the
worker's own process, until one has ended.
"""

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from queue_run.contracts.keys import DRAIN_TASK


class DrainGate:
    """Hands tasks to a pool, and drains only while there are few.

    Args:
        give: hands one to the pool.
        most: how many drains the pool may have; None for any number.
    """

    def __init__(self, give: Callable[[Any], object], most: Callable[[], int | None]) -> None:
        self._give = give
        self._most = most
        self._waiting: deque[Any] = deque()
        #: What Celery has dropped, as after a lost link, does not count any more.
        self._running: weakref.WeakSet[Any] = weakref.WeakSet()

    def admit(self, request: Any) -> None:
        """Take a task from Celery."""
        if request.type != DRAIN_TASK or self._most() is None:
            self._give(request)
            return
        request.when_settled = self.ended
        self._waiting.append(request)
        self.go_on()

    def ended(self, request: Any) -> None:
        """A drain has ended."""
        self._running.discard(request)
        self.go_on()

    def go_on(self) -> None:
        """Hand on what there is room for."""
        while self._waiting:
            most = self._most()
            if most is not None and len(self._running) >= most:
                return
            request = self._waiting.popleft()
            self._running.add(request)
            self._give(request)

    def clear(self) -> None:
        """Drop what waits: its link is lost, and the broker hands it out again."""
        self._waiting.clear()

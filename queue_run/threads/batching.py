"""A thread that works for many: it takes together what has come since it looked."""

import collections
import queue
from typing import Generic, TypeVar

T = TypeVar("T")


class Batching(Generic[T]):
    """A queue for one thread, and the bell that wakes the thread once for all that has come.

    To submit from any thread, at the cost of one append while the thread has not looked yet:

        self._waiting.append(item)
        if not self._woken:
            self._ring()

    The thread waits with `_is_woken`, and sets `_woken` to False before it looks: what comes after
    that rings again.
    """

    def __init__(self) -> None:
        self._waiting: collections.deque[T] = collections.deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        #: Whether the thread has been woken and has not looked yet.
        self._woken = False

    def _ring(self) -> None:
        """Wake the thread."""
        self._woken = True
        self._bell.put(None)

    def _is_woken(self, within: float | None = None) -> bool:
        """Wait until the bell rings, or for so many seconds; whether it rang."""
        try:
            self._bell.get(timeout=within)
        except queue.Empty:
            return False
        return True

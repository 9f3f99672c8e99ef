"""Threads for calls of which nobody knows when they return."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from queue_run.threads.vital import VitalThread


class DetachedThreads(Executor):
    """A pool whose threads never keep the process alive.

    The standard library's pool is joined when the interpreter ends, so that one call that hangs
    would keep a process from stopping.

    Args:
        size: threads at most; with one, calls are made in the order in which they are submitted.
        on_loss: called in a thread that ends of a defect; without it, another one replaces it.
    """

    def __init__(self, size: int, *, name: str, on_loss: Callable[[], None] | None = None) -> None:
        self._size = size
        self._name = name
        self._on_loss = on_loss or self._replace
        #: Whether others may stand in for the first thread, or beside it.
        self._several = on_loss is None or size > 1
        self._threads: list[threading.Thread] = []
        self._started = 0
        self._ending = False
        self._idle = threading.Semaphore(0)
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._calls = queue.SimpleQueue()
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run `fn` in a thread; it waits while all threads are busy."""
        future: Future[Any] = Future()
        self._calls.put((future, lambda: self._call(fn, *args, **kwargs)))
        if not self._idle.acquire(blocking=False):
            self._add_thread()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end after what is queued; returns at once."""
        self._ending = True
        for _ in self._threads:
            self._calls.put(None)

    def close(self, seconds: float) -> None:
        """Let the threads do what they have been given, and end, within so many seconds each."""
        self.shutdown()
        for thread in self._threads:
            thread.join(seconds)

    def _add_thread(self) -> None:
        with self._lock:
            if len(self._threads) >= self._size:
                return
            self._started += 1
            name = f"{self._name}-{self._started}" if self._several else self._name
            thread = VitalThread(self._run, name=name, on_loss=self._on_loss)
            self._threads.append(thread)
            thread.start()

    def _replace(self) -> None:
        """Let another thread stand in for this one, which has ended of a defect."""
        with self._lock:
            self._threads.remove(threading.current_thread())
        if not self._ending:
            self._add_thread()

    def _call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Make a call; a subclass does something around it."""
        return fn(*args, **kwargs)

    def _leave(self) -> None:
        """Called in each thread when it ends; a subclass does something then."""

    def _run(self) -> None:
        while (task := self._calls.get()) is not None:
            future, call = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except StopIteration as error:
                    # No future can carry it (PEP 479).
                    failure = RuntimeError("the handler raised StopIteration")
                    failure.__cause__ = error
                    future.set_exception(failure)
                except BaseException as error:
                    # The caller decides: also about a handler that calls sys.exit.
                    future.set_exception(error)
            self._idle.release()
        self._leave()

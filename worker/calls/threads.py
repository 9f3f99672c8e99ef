"""Threads for plain handlers."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from queue_run.threads.vital import VitalThread
from worker.calls.around import Around


class HandlerThreads(Executor):
    """A pool whose threads never keep the process alive.

    The standard library's pool is joined when the interpreter ends, so that one handler that hangs
    would keep a worker from stopping.
    """

    def __init__(
        self, size: int, *, around: Around | None = None, name: str = "queue-run-handler"
    ) -> None:
        self._size = size
        #: What is done around each call; may be set before the first.
        self.around = around or Around()
        self._name = name
        self._threads: list[threading.Thread] = []
        self._started = 0
        self._ending = False
        self._idle = threading.Semaphore(0)
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._tasks = queue.SimpleQueue()
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run `fn` in a thread; it waits while all threads are busy."""
        future: Future[Any] = Future()
        self._tasks.put((future, lambda: self._call(fn, *args, **kwargs)))
        if not self._idle.acquire(blocking=False):
            self._add_thread()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end after what is queued; returns at once."""
        self._ending = True
        for _ in self._threads:
            self._tasks.put(None)

    def _add_thread(self) -> None:
        with self._lock:
            if len(self._threads) >= self._size:
                return
            self._started += 1
            name = f"{self._name}-{self._started}"
            thread = VitalThread(self._run, name=name, on_loss=self._replace)
            self._threads.append(thread)
            thread.start()

    def _replace(self) -> None:
        """Let another thread stand in for this one, which has ended of a defect."""
        with self._lock:
            self._threads.remove(threading.current_thread())
        if not self._ending:
            self._add_thread()

    def _call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self.around.idle:
            return fn(*args, **kwargs)
        with self.around.call():
            return fn(*args, **kwargs)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
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
        self.around.leave()


class LoopThreads(ThreadPoolExecutor):
    """The threads behind `asyncio.to_thread`, where something is done around each call."""

    def __init__(self, around: Around) -> None:
        super().__init__(thread_name_prefix="queue-run-loop")
        self._around = around

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        return super().submit(self._call, fn, *args, **kwargs)

    def _call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        with self._around.call():
            return fn(*args, **kwargs)

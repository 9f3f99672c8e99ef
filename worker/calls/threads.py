"""Threads for plain handlers."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from queue_run.threads.detached import DetachedThreads
from worker.calls.around import Around


class HandlerThreads(DetachedThreads):
    """Threads in which something is done around each call."""

    def __init__(
        self, size: int, *, around: Around | None = None, name: str = "queue-run-handler"
    ) -> None:
        super().__init__(size, name=name)
        #: May be set before the first call.
        self.around = around or Around()

    def _call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self.around.idle:
            return fn(*args, **kwargs)
        with self.around.call():
            return fn(*args, **kwargs)

    def _leave(self) -> None:
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

"""The event loop of a worker process: one thread, on which asynchronous handlers and jobs run."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from queue_run.threads.vital import VitalThread
from worker.calls.around import Around
from worker.calls.threads import LoopThreads

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds in which cancelled work must end.
CANCEL_TIME = 5.0


class BackgroundLoop:
    """An event loop in a thread of its own, beside Celery's threads.

    Args:
        around: what is done around each call of the application's code.
        on_loss: called in the loop's thread when that ends of a defect: nothing runs then.
    """

    def __init__(self, around: Around | None = None, *, on_loss: Callable[[], None]) -> None:
        self.loop = asyncio.new_event_loop()
        if around is not None and not around.idle:
            self.loop.set_default_executor(LoopThreads(around))
        self._stopping = False
        self._thread = VitalThread(self._run, name="queue-run-handlers", on_loss=on_loss)

    def start(self) -> None:
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run on the loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(_contained(work), self.loop)

    def stop(self) -> None:
        """End the loop; what still runs on it is cancelled."""
        self.submit(self._cancel_all()).result()
        self._stopping = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._stopping:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # Of a task that a handler has left behind; asyncio lets it end the loop.
                log.error("%r on the loop of the handlers ends nothing", error)

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks(self.loop) - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            _, left = await asyncio.wait(others, timeout=CANCEL_TIME)
            for task in left:
                log.error("%s does not let itself be cancelled, and is left behind", task)
        await self.loop.shutdown_asyncgens()


async def _contained(work: Coroutine[Any, Any, T]) -> T:
    """The work, whose exit is a failure like any other."""
    try:
        return await work
    except SystemExit as error:
        raise RuntimeError(f"sys.exit({error.code}) was called") from error
    except KeyboardInterrupt as error:
        raise RuntimeError("KeyboardInterrupt was raised") from error

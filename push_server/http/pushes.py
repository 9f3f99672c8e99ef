"""Jobs on their way from HTTP requests to the broker.

Pushing blocks, so a thread does it: one, so that jobs are with the broker in the order in which
their requests were complete.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

from queue_run.contracts.manifest import QueueFacts
from queue_run.errors import DispatchUnavailable
from queue_run.jobs.pushing import JobPusher
from queue_run.jobs.stored import StoredJob
from queue_run.storage.fullness import Fullness
from queue_run.threads.detached import DetachedThreads
from queue_run.threads.vital import end_process

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Jobs that wait for the thread. It takes hundreds in a second; more come only while the broker
#: is away, or from somebody who should be slowed down.
MAX_PUSHES = 256
#: Questions to workers, which user a client is, that are under way at once, at most.
MAX_QUESTIONS = 256
#: Seconds in which a push that the broker did not take is withdrawn, and more.
WITHDRAWAL = 5.0


class Busy(Exception):
    """Raised when too much is under way; the client may try again in a second."""


class Places:
    """A number of places for work that is under way at once."""

    def __init__(self, count: int) -> None:
        self._free = count

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place inside the block.

        Raises:
            Busy: when no place is free.
        """
        if not self._free:
            raise Busy
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class Pushes:
    """Pushes jobs, and knows which requests for that are under way.

    Args:
        publish_timeout: seconds that one push may take, about.
        on_loss: called in the thread that pushes when that ends of a defect.
    """

    def __init__(
        self,
        pusher: JobPusher,
        *,
        publish_timeout: float,
        on_loss: Callable[[], None] = end_process,
    ) -> None:
        self._pusher = pusher
        # A push first waits in line and is then made: each may take as long as one push.
        self._patience = 2 * publish_timeout
        self._threads = DetachedThreads(1, name="queue-run-push", on_loss=on_loss)
        self._line = Places(MAX_PUSHES)
        #: Places for requests that ask a worker which user the client is.
        self.questions = Places(MAX_QUESTIONS)
        #: Whether Redis was too full for the last push.
        self.fullness = Fullness(log, "pushes over HTTP get 503")
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def push(self, job: StoredJob, facts: QueueFacts, dedupe: str | None) -> str:
        """Hand a job to its workers; return the id of the job that runs (see `JobPusher.push`).

        Raises:
            Busy: when too many jobs are in line.
            InvalidPush: for a group where there must be none, or none where there must be one.
            DispatchUnavailable: when the broker has not taken it in time.
            JobStoreUnavailable: the same of Redis, for a FIFO queue.
        """
        with self._line.taken():
            work = self._threads.submit(self._pusher.push, job, facts, dedupe)
            future = asyncio.wrap_future(work)
            try:
                async with asyncio.timeout(self._patience):
                    return await asyncio.shield(future)
            except TimeoutError:
                if work.cancel():
                    raise DispatchUnavailable(
                        f"the broker took no job within {self._patience:g} seconds"
                    ) from None
            # Its turn has come: it ends soon, and only its end tells whether the broker has it.
            try:
                async with asyncio.timeout(self._patience + WITHDRAWAL):
                    return await asyncio.shield(future)
            except TimeoutError:
                log.error("a push of job %s has no end: it may still be made", job.id)
                raise DispatchUnavailable("nobody knows whether the broker took the job") from None

    # Requests under way.

    def begin(self) -> None:
        """Note that a request has come which may become a job."""
        self._requests += 1
        self._idle.clear()

    def end(self) -> None:
        """Note that a request has been answered, or that its client is gone."""
        self._requests -= 1
        if not self._requests:
            self._idle.set()

    async def wind_down(self, seconds: float) -> None:
        """Return when every request that has begun is answered, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        if self._requests:
            log.error("%d pushes were not answered in time", self._requests)

    def close(self, seconds: float) -> None:
        """End the thread, within so many seconds; blocks."""
        self._threads.close(seconds)

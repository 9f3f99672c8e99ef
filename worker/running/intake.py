"""Taking requests from Celery: a task hands them over and returns, they run on the loop."""

import asyncio
import logging
import threading
import time

from queue_run.contracts.envelopes import Authenticate, Authenticated, Outcome, Turn, Work, encode
from queue_run.contracts.ids import ServerId, server_of
from queue_run.process.runtime import Runtime
from queue_run.socket import SERVER_ENTRIES
from worker.application.middleware import Middleware
from worker.application.routes import Routes
from worker.calls.threads import HandlerThreads
from worker.ending import end_worker
from worker.running.background import BackgroundLoop
from worker.running.runner import Runner

log = logging.getLogger(__name__)

#: Seconds for which handlers may hold up their loop before the process counts as stuck.
STALLED = 8.0
#: Seconds that middleware has at the end of a process, after everything else has ended.
MIDDLEWARE_TIME = 5.0


class Intake:
    """One process's requests: those it has accepted and not yet answered."""

    def __init__(self, routes: Routes, runtime: Runtime) -> None:
        settings = runtime.settings
        self._runtime = runtime
        #: What is done around each call of the application's code.
        self.around = routes.around
        self.around.limit_threads(settings.handler_threads)
        self._threads = HandlerThreads(settings.handler_threads, around=self.around)
        self.background = BackgroundLoop(self.around, on_loss=end_worker)
        self.background.start()
        self.middleware = Middleware(self.background.loop, self._threads, self.around)
        self.runner = Runner(
            routes,
            threads=self._threads,
            middleware=self.middleware,
            max_message_bytes=settings.max_message_bytes,
            expose_errors=settings.expose_errors,
            clock=runtime.clock,
        )
        self._max_in_flight = settings.max_in_flight
        self._open = 0
        self._changed = threading.Condition()
        #: Since when the loop is waited for (monotonic).
        self._asked_at: float | None = None

    def accept(self, batch: list[Work]) -> None:
        """Take requests over; blocks while `max_in_flight` of them run, so that Celery takes no
        more for this process than it can answer."""
        while batch:
            with self._changed:
                self._changed.wait_for(lambda: self._open < self._max_in_flight)
                room = self._max_in_flight - self._open
                given, batch = batch[:room], batch[room:]
                self._open += len(given)
            # Not in the block: it may ask Redis, and the loop needs the lock for each that ends.
            taken = self._in_time(given)
            if len(taken) < len(given):
                with self._changed:
                    self._open -= len(given) - len(taken)
                    self._changed.notify_all()
            if taken:
                self.background.loop.call_soon_threadsafe(self._start, taken)

    def _in_time(self, batch: list[Work]) -> list[Work]:
        """Drop work that came too late, and return what somebody still waits for."""
        now = self._runtime.clock.now()
        if all(work.expires >= now for work in batch):
            return batch
        # Nothing is dropped before it is certain that nobody has set Redis' clock.
        self._runtime.measure_clock(after=1.0)
        now = self._runtime.clock.now()
        for work in batch:
            if work.expires < now:
                log.warning("%s came too late and is dropped", _name(work))
        return [work for work in batch if work.expires >= now]

    @property
    def stalled(self) -> float:
        """Seconds for which the loop of the handlers has not come round, when last asked here.

        The first call only begins to look.
        """
        now = time.monotonic()
        # The loop may come round at any moment, in its own thread.
        asked_at = self._asked_at
        if asked_at is None:
            asked_at = self._asked_at = now
            self.background.loop.call_soon_threadsafe(self._came_round)
        return now - asked_at

    def _came_round(self) -> None:
        self._asked_at = None

    def wind_down(self, timeout: float) -> None:
        """Wait until everything accepted is answered and its outcome on the channel, then end.

        What still runs after `timeout` seconds is told by its signal, and then cancelled.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: self._open == 0, timeout)
        if not done:
            log.error("%d requests did not end within %g seconds", self._open, timeout)
            self.runner.signal_all()
        self._settle_middleware()
        self.background.stop()
        self._threads.shutdown()
        self.around.end()
        self._runtime.publisher.flush()

    def _settle_middleware(self) -> None:
        try:
            self.background.submit(self.middleware.settled()).result(MIDDLEWARE_TIME)
        except TimeoutError:
            log.warning("middleware still runs and is ended")

    def _start(self, batch: list[Work]) -> None:
        loop = asyncio.get_running_loop()
        for work in batch:
            loop.create_task(self._run(work)).add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()
        if not task.cancelled() and task.exception() is not None:
            log.error("a request could not be run", exc_info=task.exception())

    async def _run(self, work: Work) -> None:
        if isinstance(work, Authenticate):
            with self.around.task():
                answer = await self.runner.authenticate(work)
            self._publish(work.server, answer)
        else:
            for inbound in work.requests:
                with self.around.task():
                    outcome = await self.runner.run_request(work, inbound)
                self._publish(server_of(work.connection), outcome)

    def _publish(self, server: ServerId, envelope: Outcome | Authenticated) -> None:
        # Nobody waits for it here: a failure is logged when the receipt is dropped, and the push
        # server's deadline answers the client.
        self._runtime.publisher.submit(
            self._runtime.keys.server(server),
            encode(envelope),
            max_entries=SERVER_ENTRIES,
            create=False,
            share=True,
        )


def _name(work: Turn | Authenticate) -> str:
    if isinstance(work, Authenticate):
        return f"a connection to {work.path}"
    return f"{len(work.requests)} requests of {work.connection}"

"""The parts of an application that is open for tests, and the event loops on which it runs."""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from queue_run.application.requests import SentMessage
from queue_run.contracts.ids import UserId
from queue_run.errors import Refuse
from queue_run.jobs.pushing import check_group
from queue_run.jobs.stored import StoredJob
from queue_run.settings import Settings
from queue_run.testing.connections import Connection
from queue_run.testing.engine import Engine, working
from queue_run.testing.jobs import MOST_JOBS, Pushed
from queue_run.testing.process import InProcessRuntime
from worker.application.routes import NO_CARE, Routes
from worker.calls.threads import HandlerThreads
from worker.running.background import BackgroundLoop

T = TypeVar("T")

#: Seconds that the threads of plain handlers get to end. A thread that hangs is left alone.
THREADS_END = 1.0


class Stage:
    """The parts of one open application.

    Handlers run on the test's own event loop where it has one, and else on a loop in a thread,
    which is made when it is first needed.
    """

    def __init__(self, settings: Settings) -> None:
        self.runtime = InProcessRuntime(settings)
        self.delivery = self.runtime.delivery
        self.jobs = self.runtime.jobs
        #: The errors that `on_error` got, or would have got.
        self.errors: list[BaseException] = []
        #: The users who were online when `on_online` and `on_offline` last ran.
        self._online: list[UserId] = []
        self._routes = Routes()
        self._router = self._routes.router()
        self._threads = _Threads(settings.handler_threads)
        self._background: BackgroundLoop | None = None
        self._engines: dict[asyncio.AbstractEventLoop, Engine] = {}

    def start(self, routes: Routes) -> None:
        """Begin to run these handlers."""
        self._routes = routes
        self._router = routes.router()
        self.runtime.local_queues = routes.local_queues
        self._threads.around = routes.around
        if routes.hooks.sent is not None:
            self.runtime.on_sent = self._sent

    def keeps_order(self, path: str) -> bool:
        """True if requests on this path take turns."""
        found = self._router.match(path)
        return found is None or found[0].ordered

    async def authenticate(self, client: Connection, *, raise_errors: bool) -> None:
        """Let the application's `on_authenticate` decide on a client that connects.

        Raises:
            Refuse: when `on_authenticate` refuses, or fails.
            Exception: the error of `on_authenticate`, with `raise_errors`.
        """
        try:
            await self.engine().authenticate(client, None)
        except Refuse as refusal:
            if raise_errors and refusal.__cause__ is not None:
                raise refusal.__cause__ from None
            raise

    async def exchange(self, client: Connection, message: object, *, raise_errors: bool) -> None:
        """Run a client's request when its turn has come.

        Raises:
            Disconnected: when the connection is closed.
            Exception: the handler's own, with `raise_errors`.
        """
        takes_turn = client.handshake.ordered or client.owes_token
        async with client.turn if takes_turn else contextlib.nullcontext():
            client.require_connected()
            run = self.engine().authenticate if client.owes_token else self.engine().request
            failures = await run(client, client.frame(message))
        await self.notice_users()
        if failures and raise_errors:
            raise failures[0]

    async def run_jobs(self) -> list[Pushed]:
        """Run the waiting jobs, and the jobs that they push; return those that were run.

        Raises:
            RuntimeError: when jobs push jobs without an end.
            Exception: what a job raises; the rest waits.
        """
        done: list[Pushed] = []
        while (entry := self.jobs.take()) is not None:
            if self.jobs.is_cancelled(entry.stored.id):
                self.engine().drop_job(entry)
                continue
            try:
                await self.engine().run_job(entry)
            finally:
                await self.notice_users()
            done.append(entry.pushed)
            if len(done) >= MOST_JOBS and self.jobs.any_wait:
                raise RuntimeError(f"{MOST_JOBS} jobs have run, and there are still more")
        return done

    async def run_job(self, job: StoredJob, attempt: int) -> Any:
        """Make one attempt of a job that was not pushed.

        Raises:
            UnknownQueue: when the application has no such queue.
            InvalidPush: for a group where there must be none, or none where there must be one.
            ValueError: for an attempt that no job of the queue has.
            Exception: what the job raises.
        """
        check_group(job, self.runtime.queue(job.queue).facts, None)
        most = self._routes.queues[job.queue].attempts
        if not 1 <= attempt <= most:
            raise ValueError(f"a job of {job.queue} has attempts 1 to {most}, and no {attempt}")
        try:
            return await self.engine().run_job(self.jobs.begin(job), attempt)
        finally:
            await self.notice_users()

    async def notice_users(self) -> None:
        """Run `on_online` and `on_offline` for the users who have come and gone."""
        while self._routes.watches_users and set(self._online) != set(self.delivery.online):
            before, self._online = self._online, self.delivery.online
            here = self._online
            for user in [each for each in before if each not in here]:
                await self.engine().run_hook(user, online=False)
            for user in [each for each in here if each not in before]:
                await self.engine().run_hook(user, online=True)

    def notice_users_now(self) -> None:
        """Run `on_online` and `on_offline`, in synchronous tests."""
        if self._routes.watches_users:
            self.run(self.notice_users())

    def clear(self) -> None:
        """Forget the messages that were sent, the jobs that were pushed, and the errors."""
        self.runtime.clear()
        self.errors.clear()

    def engine(self) -> Engine:
        """The engine that runs handlers on the current event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._engines:
            # The test's own loop may belong to a framework's test case, whose transaction is
            # open in the thread that it runs in.
            own = self._background is None or loop is not self._background.loop
            routes = replace(self._routes, around=NO_CARE) if own else self._routes
            self._engines[loop] = Engine(
                self.runtime, routes, loop, self._threads, self.errors.append
            )
        return self._engines[loop]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop in the thread, and wait for its result."""
        if self._background is None:
            # The process is the tests': what is lost here is logged, and ends nothing.
            self._background = BackgroundLoop(self._routes.around, on_loss=lambda: None)
            self._background.start()
        return self._background.submit(work).result()

    def close(self) -> None:
        """End the loop in the thread, and the threads of plain handlers."""
        if self._background is not None:
            self.run(self._end_loop())
            self._background.stop()
            self._background = None
        self._engines.clear()
        self._threads.end(THREADS_END)
        self._routes.around.end()

    async def _end_loop(self) -> None:
        await self.engine().settle()
        # Of `asyncio.to_thread` in handlers.
        await asyncio.get_running_loop().shutdown_default_executor()

    def _sent(self, message: SentMessage) -> None:
        """Call `on_message_sent` for a message of a job, or of code outside of handlers."""
        engine = working()
        if engine is not None:
            engine.sent(message)
            return
        try:
            engine = self.engine()
        except RuntimeError:
            # Synchronous code outside of handlers: the test sees at once what middleware does.
            self.run(self._tell(message))
        else:
            engine.sent(message)

    async def _tell(self, message: SentMessage) -> None:
        self.engine().sent(message)
        await self.engine().settle()


class _Threads(HandlerThreads):
    """The threads of plain handlers. They end with the test, unless a handler hangs."""

    def end(self, seconds: float) -> None:
        self.shutdown()
        for thread in self._threads:
            thread.join(seconds)

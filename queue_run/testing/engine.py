"""Handlers and jobs on one event loop, through the worker's own runner."""

import asyncio
import contextlib
import contextvars
import copy
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from http import HTTPStatus
from typing import Any

import msgspec

from queue_run import context
from queue_run.envelopes import Authenticate, Authenticated, Inbound, Turn
from queue_run.errors import Refuse
from queue_run.ids import server_of
from queue_run.messages import encode_json
from queue_run.requests import SentMessage, Signal
from queue_run.settings import Settings
from queue_run.testing.connections import Connection
from queue_run.testing.delivery import Delivery
from queue_run.testing.jobs import Pushed
from worker.middleware import Asker, Hooks, Middleware
from worker.routes import Routes
from worker.runner import Job, Runner, run_async_job, run_sync_job

#: Status of `Authenticated` that asks for a token in the first message.
ASKS_TOKEN = 100
#: Close code for a client whose token is refused.
UNAUTHORIZED = 4401
#: Seconds until the requests of tests expire: nothing ever waits.
FAR = 3600.0

#: The engine that runs the current code; None in the test itself.
_working: contextvars.ContextVar["Engine | None"] = contextvars.ContextVar(
    "queue_run_testing_engine", default=None
)
#: What has failed in the request that runs here, in its middleware too.
_failures: contextvars.ContextVar[list[BaseException] | None] = contextvars.ContextVar(
    "queue_run_testing_failures", default=None
)


def working() -> "Engine | None":
    """The engine that runs the current handler, middleware or job; None outside of them."""
    return _working.get()


class Engine:
    """Runs an application on the event loop that calls it."""

    def __init__(
        self,
        routes: Routes,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        threads: Executor,
        delivery: Delivery,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._routes = routes
        self._settings = settings
        self._threads = threads
        self._delivery = delivery
        self._on_failure = on_failure
        self._middleware = _Noting(loop, threads, on_failure)
        self._runner = Runner(
            routes,
            threads=threads,
            middleware=self._middleware,
            max_message_bytes=settings.max_message_bytes,
            expose_errors=settings.expose_errors,
        )

    def sent(self, message: SentMessage) -> None:
        """Tell the middleware of a message that no handler has sent; from any thread."""
        self._runner.sent(message)

    async def settle(self) -> None:
        """Wait until all middleware that was started has ended."""
        # Lets the loop begin with what other threads have handed to it.
        await asyncio.sleep(0)
        await self._middleware.settled()

    async def request(self, client: Connection, frame: Inbound) -> list[BaseException]:
        """Run the handler, and deliver its outcome; gives what has failed."""
        turn = Turn(
            connection=client.id,
            path=client.handshake.path,
            query=client.handshake.query,
            user=msgspec.Raw(encode_json(client.user)),
            requests=[frame],
            expires=time.time() + FAR,
        )
        with self._at_work() as failures:
            self._delivery.deliver(await self._runner.run_request(turn, frame))
            await self.settle()
        client.errors += failures
        return failures

    async def authenticate(self, client: Connection, first: Inbound | None) -> list[BaseException]:
        """Run `on_authenticate`, and give the client its user; gives what has failed.

        Args:
            first: the client's first message, if it was asked for its token.

        Raises:
            Refuse: when it is refused before it is connected.
        """
        asked = Authenticate(
            id=first.id if first is not None else client.next_request_id(),
            server=server_of(client.id),
            path=client.handshake.path,
            query=client.handshake.query,
            headers=list(client.handshake.headers),
            remote_ip=client.handshake.remote_ip,
            message=first,
            expires=time.time() + FAR,
        )
        with self._at_work() as failures:
            answer = await self._answer(asked)
            await self.settle()
        client.errors += failures
        client.expires = answer.expires
        client.owes_token = answer.status == ASKS_TOKEN
        if answer.status == HTTPStatus.OK:
            client.user = None if answer.user is None else msgspec.json.decode(answer.user)
        elif first is not None:
            client.close(UNAUTHORIZED, answer.reason or "not authorized")
        elif answer.status != ASKS_TOKEN:
            raise Refuse(answer.status, answer.reason) from (failures[0] if failures else None)
        return failures

    async def _answer(self, asked: Authenticate) -> Authenticated:
        try:
            async with asyncio.timeout(self._settings.authenticate_timeout) as limit:
                return await self._runner.authenticate(asked)
        except TimeoutError:
            if not limit.expired():
                raise
            return Authenticated(request=asked.id, status=503, reason="no worker answered in time")

    async def job(self, pushed: Pushed) -> Any:
        """Run a job; what it raises is raised here."""
        queue = self._routes.queues[pushed.queue]
        job = Job(
            id=pushed.id,
            queue=queue,
            # What a job does to its payload is not what was pushed.
            payload=copy.deepcopy(pushed.payload),
            user=copy.deepcopy(pushed.user),
            queued_at=pushed.queued_at,
            attempt=1,
        )
        signal = Signal()
        try:
            with self._at_work():
                if queue.is_async:
                    return await run_async_job(self._runner, job, signal)
                return await self._runner.limited(
                    lambda: self._in_thread(run_sync_job, job, signal), queue.timeout, signal
                )
        except SystemExit as error:
            # It would end the event loop, and with it the whole test run.
            raise RuntimeError(f"the job called sys.exit({error.code!r})") from error
        except Exception as error:
            self._on_failure(error)
            raise
        finally:
            await self.settle()

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        run = contextvars.copy_context().run
        return await self._loop.run_in_executor(self._threads, run, function, *arguments)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[list[BaseException]]:
        """Outside the call, if any, that the test itself runs in; gives what fails inside."""
        failures: list[BaseException] = []
        engine, outer = _working.set(self), _failures.set(failures)
        try:
            with context.running(None):
                yield failures
        finally:
            _failures.reset(outer)
            _working.reset(engine)


class _Noting(Middleware):
    """Middleware that keeps what has failed, whether or not there is an `on_error`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: Executor,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        super().__init__(loop, threads)
        self._on_failure = on_failure

    async def failed(self, hooks: Hooks, error: BaseException, asker: Asker) -> None:
        self._on_failure(error)
        failures = _failures.get()
        if failures is not None:
            failures.append(error)
        await super().failed(hooks, error, asker)

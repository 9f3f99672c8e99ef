"""The engine: it runs handlers and jobs on one event loop, through the worker's own runner."""

import asyncio
import contextlib
import contextvars
import copy
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, TypeVar, assert_never

import msgspec

from queue_run.application.requests import Job, SentMessage
from queue_run.contracts.envelopes import (
    Admission,
    Admitted,
    Authenticate,
    Authenticated,
    Inbound,
    Refusal,
    TokenWanted,
    Turn,
)
from queue_run.contracts.ids import UserId, server_of
from queue_run.contracts.messages import encode_json
from queue_run.errors import HandlerTimeout, Refuse
from queue_run.process import context
from queue_run.testing.connections import Connection
from queue_run.testing.ends import Ends
from queue_run.testing.jobs import KeptJob
from queue_run.testing.process import InProcessRuntime
from worker.application.middleware import Asker, Hook, Hooks, Middleware, ends_the_process
from worker.application.routes import JobHandler, Routes
from worker.presence import run_hook
from worker.running.job_runner import call_of, run_async_job, run_plain_job
from worker.running.runner import Runner

T = TypeVar("T")

#: Close code for a client whose token is refused.
UNAUTHORIZED = 4401
#: Seconds until the requests of tests expire: nothing ever waits.
FAR = 3600.0

#: The engine that runs the current code; None in the test itself.
_working: contextvars.ContextVar["Engine | None"] = contextvars.ContextVar(
    "queue_run_testing_engine", default=None
)
#: The errors of the request that runs here, and of its middleware.
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
        runtime: InProcessRuntime,
        routes: Routes,
        loop: asyncio.AbstractEventLoop,
        threads: Executor,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        settings = runtime.settings
        self._loop = loop
        self._routes = routes
        self._settings = settings
        self._threads = threads
        self._delivery = runtime.delivery
        self._jobs = runtime.jobs
        self._ends = Ends(runtime)
        self._on_failure = on_failure
        self._middleware = _Noting(loop, threads, on_failure)
        self._runner = Runner(
            routes,
            threads=threads,
            middleware=self._middleware,
            max_message_bytes=settings.max_message_bytes,
            expose_errors=settings.expose_errors,
            clock=runtime.clock,
        )

    async def run_hook(self, user: UserId, *, online: bool) -> None:
        """Run `on_online` or `on_offline`."""
        with self._at_work():
            await run_hook(self._routes, self._middleware, user, online=online)
            await self.settle()

    def sent(self, message: SentMessage) -> None:
        """Call `on_message_sent` for a message that no handler has sent; from any thread."""
        self._runner.sent(message)

    async def settle(self) -> None:
        """Wait until all middleware that was started has ended."""
        # Lets the loop begin with what other threads have handed to it.
        await asyncio.sleep(0)
        await self._middleware.settled()

    async def request(self, client: Connection, frame: Inbound) -> list[BaseException]:
        """Run the handler, and deliver its outcome; return the errors."""
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
        """Run `on_authenticate`, and give the client its user; return the errors.

        Args:
            first: the client's first message, if it was asked for its token.

        Raises:
            Refuse: when the client is refused before it is connected.
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
        _tell(client, answer.admission, first, failures)
        return failures

    async def _answer(self, asked: Authenticate) -> Authenticated:
        try:
            async with asyncio.timeout(self._settings.authenticate_timeout) as limit:
                return await self._runner.authenticate(asked)
        except TimeoutError:
            if not limit.expired():
                raise
            return Authenticated.of(asked.id, Refusal(503, "no worker answered in time"))

    async def run_job(self, entry: KeptJob, attempt: int = 1) -> Any:
        """Make one attempt of a job that was begun, and raise its error here."""
        queue = self._routes.queues[entry.stored.queue]
        job = _job(queue, entry, attempt)
        value, failure = None, None
        try:
            with self._at_work():
                try:
                    value = await self._attempt(queue, job)
                except BaseException as error:
                    if ends_the_process(error):
                        raise
                    failure = error
                    with context.running(call_of(job, "on_error")):
                        await self._middleware.failed(queue.hooks, error, job)
            if self._jobs.is_cancelled(job.job_id):
                self._ends.cancelled(queue, entry)
            elif failure is None:
                self._ends.finished(queue, entry)
            else:
                self._ends.failed(queue, entry, attempt, failure)
        finally:
            self._jobs.end(entry)
            await self.settle()
        if failure is not None:
            _raise(failure)
        return value

    def drop_job(self, entry: KeptJob) -> None:
        """End a job that was cancelled before it ran."""
        self._ends.cancelled(self._routes.queues[entry.stored.queue], entry)
        self._jobs.end(entry)

    async def _attempt(self, handler: JobHandler, job: Job) -> Any:
        limited = self._runner.limited
        if handler.is_async:
            return await run_async_job(handler, job, limited=limited, middleware=self._middleware)
        run = partial(
            run_plain_job, self._watched(handler), job, limited=limited, on_loop=self._on_loop
        )
        value = await limited(lambda: self._in_thread(run), handler.timeout, job.signal)
        if self._is_over_time(job):
            # The job has a clock of its own, which may be a little ahead.
            raise HandlerTimeout(handler.timeout)
        return value

    def _watched(self, handler: JobHandler) -> JobHandler:
        """A plain job's queue, whose middleware does in a thread what it does in a main thread:
        there a job that runs too long is interrupted, and does not finish."""
        hooks = handler.hooks
        finished = hooks.finished and _instead(hooks.finished, partial(self._finished, hooks))
        error = _instead(hooks.error, partial(self._failed, hooks))
        return replace(handler, hooks=replace(hooks, finished=finished, error=error))

    def _finished(self, hooks: Hooks, job: Job) -> Any:
        assert hooks.finished is not None
        return None if self._is_over_time(job) else hooks.finished.function(job)

    def _failed(self, hooks: Hooks, error: BaseException, job: Job) -> Any:
        """Called for a failure of `on_job_finished`."""
        self._on_failure(error)
        return None if hooks.error is None else hooks.error.function(error, job)

    def _is_over_time(self, job: Job) -> bool:
        return job.signal.is_set() and not self._jobs.is_cancelled(job.job_id)

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        run = contextvars.copy_context().run
        return await self._loop.run_in_executor(self._threads, run, function)

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(_contained(work), self._loop).result()

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[list[BaseException]]:
        """Run the block outside the test's own call, if there is one; give the errors inside."""
        failures: list[BaseException] = []
        engine, outer = _working.set(self), _failures.set(failures)
        try:
            with self._routes.around.task(), context.running(None):
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


def _job(handler: JobHandler, entry: KeptJob, attempt: int) -> Job:
    stored, facts = entry.stored, entry.stored.facts
    return Job(
        job_id=stored.id,
        queue_name=handler.name,
        # What a job does to its payload is not what was pushed.
        payload=copy.deepcopy(stored.payload),
        user=copy.deepcopy(facts.user),
        queued_at=facts.queued_at,
        attempt=attempt,
        revived=facts.revived,
        group_id=facts.group,
        sequence_number=entry.sequence,
        params=dict(facts.params),
        signal=entry.signal,
        file=handler.file,
    )


def _instead(hook: Hook | None, function: Callable[..., Any]) -> Hook:
    return Hook(function=function, file=hook.file if hook is not None else "", is_async=False)


async def _contained(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except SystemExit as error:
        # It would end the event loop, and with it the whole test run.
        raise RuntimeError(f"sys.exit({error.code!r}) was called") from error


def _raise(failure: BaseException) -> NoReturn:
    """Raise what a job has failed with, in a form that ends the test and nothing more."""
    if isinstance(failure, Exception):
        raise failure
    what = f"sys.exit({failure.code!r})" if isinstance(failure, SystemExit) else repr(failure)
    raise RuntimeError(f"the job was ended by {what}") from failure


def _tell(
    client: Connection,
    admission: Admission,
    first: Inbound | None,
    failures: list[BaseException],
) -> None:
    """Let a client have the answer to its handshake, or to its first message.

    Raises:
        Refuse: when it is refused before it is connected.
    """
    client.owes_token = isinstance(admission, TokenWanted)
    client.expires = None
    match admission:
        case Admitted():
            client.expires = admission.expires
            client.user = None if admission.user is None else msgspec.json.decode(admission.user)
        case TokenWanted():
            if first is not None:
                client.close(UNAUTHORIZED, "not authorized")
        case Refusal() if first is not None:
            client.close(UNAUTHORIZED, admission.reason or "not authorized")
        case Refusal():
            cause = failures[0] if failures else None
            raise Refuse(admission.status, admission.reason) from cause
        case _:
            assert_never(admission)

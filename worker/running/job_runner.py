"""Running one attempt of a job: middleware, handler, time limit. Knows no Celery and no Redis."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar

from queue_run.application.requests import Job, Signal
from queue_run.contracts.ids import id_of_user
from queue_run.errors import ClientError, InvalidPush
from queue_run.process import context
from queue_run.process.context import Call
from worker.application.middleware import Hook, Middleware
from worker.application.routes import JobHandler
from worker.running.time_limits import run_limited

log = logging.getLogger(__name__)

T = TypeVar("T")


class OnLoop(Protocol):
    """Runs something on the event loop of the process, and waits for it in another thread."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


class RunLimited(Protocol):
    """Runs plain code with a time limit."""

    def __call__(self, seconds: float, told: Signal, run: Callable[[], T]) -> T: ...


#: `Runner.limited`: awaits with a time limit, at whose end the signal is set.
Limited = Callable[[Callable[[], Awaitable[Any]], float, Signal], Awaitable[Any]]


async def run_async_job(
    job_handler: JobHandler, job: Job, *, limited: Limited, middleware: Middleware
) -> Any:
    """Run an asynchronous job on this event loop; what it sent is on the channel at the end.

    Returns:
        What the handler returned.

    Raises:
        HandlerTimeout: when it took longer than its queue's timeout.
        InvalidPush: when its payload does not fit the handler.
        Exception: whatever the handler or `on_job_started` raises.
    """

    async def attempt() -> Any:
        if job_handler.hooks.started is not None:
            await middleware.call(job_handler.hooks.started, job)
        return await job_handler.handler(_payload(job_handler, job), **_arguments(job_handler, job))

    call = call_of(job)
    try:
        with context.running(call):
            value = await limited(attempt, job_handler.timeout, job.signal)
            await _finished(job_handler, job, middleware)
    finally:
        await call.last_offset()
    return value


def run_plain_job(
    handler: JobHandler,
    job: Job,
    *,
    limited: Limited,
    on_loop: OnLoop,
    run_limited: RunLimited = run_limited,
) -> Any:
    """Run a plain job in this thread, as `run_async_job` runs an asynchronous one.

    The loop is used for what is asynchronous after all: middleware, and what a plain function
    returns to be awaited.

    Args:
        run_limited: of `TimeLimits`, where several jobs run in turn.
    """
    call = call_of(job)
    try:
        with context.running(call):
            attempt = partial(_attempt, handler, job, on_loop)
            value = run_limited(handler.timeout, job.signal, attempt)
            if value is not None and inspect.isawaitable(value):
                value = on_loop(_awaited(value, handler, job, limited))
            if handler.hooks.finished is not None:
                try:
                    call_here(handler.hooks.finished, on_loop, job)
                except Exception as error:
                    tell_failure(handler, error, job, on_loop)
    finally:
        if call.sent and not all(sending.done for sending in call.sent):
            # Sent from asynchronous code, and not awaited there.
            on_loop(call.last_offset())
    return value


def tell_failure(handler: JobHandler, error: BaseException, job: Job, on_loop: OnLoop) -> None:
    """Call `on_error` from outside the loop; its own failure is logged."""
    hook = handler.hooks.error
    if hook is None:
        return
    try:
        with context.running(context.current() or call_of(job, "on_error")):
            call_here(hook, on_loop, error, job)
    except Exception:
        log.exception("on_error of %s failed, while it was told of: %r", hook.file, error)


def call_here(hook: Hook, on_loop: OnLoop, *arguments: Any) -> None:
    """Run a hook from outside the loop: a plain one in this thread."""
    value = hook.function(*arguments)
    if value is not None and inspect.isawaitable(value):
        on_loop(_await(value))


def call_of(job: Job, part: str = "") -> Call:
    """Make the call in which a job runs: that of its user.

    Args:
        part: of the attempt, if it is not the attempt itself: both may send the same.
    """
    life = f"{job.job_id} {job.revived} {part}"
    return Call(user=job.user, user_id=id_of_user(job.user), job_id=life)


async def _finished(handler: JobHandler, job: Job, middleware: Middleware) -> None:
    """Call `on_job_finished`, whose failure does not make the job fail: its work is done."""
    if handler.hooks.finished is None:
        return
    try:
        await middleware.call(handler.hooks.finished, job)
    except Exception as error:
        await middleware.failed(handler.hooks, error, job)


def _attempt(handler: JobHandler, job: Job, on_loop: OnLoop) -> Any:
    if handler.hooks.started is not None:
        call_here(handler.hooks.started, on_loop, job)
    return handler.handler(_payload(handler, job), **_arguments(handler, job))


async def _awaited(value: Awaitable[Any], handler: JobHandler, job: Job, limited: Limited) -> Any:
    return await limited(partial(_await, value), handler.timeout, job.signal)


async def _await(value: Awaitable[T]) -> T:
    return await value


def _payload(handler: JobHandler, job: Job) -> Any:
    if handler.validate is None:
        return job.payload
    try:
        return handler.validate(job.payload)
    except ClientError as error:
        raise InvalidPush(f"{handler.name} does not take this payload: {error}") from None


def _arguments(job_handler: JobHandler, job: Job) -> dict[str, Any]:
    """Collect the values that the handler asks for by name."""
    return {name: getattr(job, name) for name in job_handler.parameters}

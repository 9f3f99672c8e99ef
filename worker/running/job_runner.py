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
    queue: JobHandler, job: Job, *, limited: Limited, middleware: Middleware
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
        if queue.hooks.started is not None:
            await middleware.call(queue.hooks.started, job)
        return await queue.handler(_payload(queue, job), **_arguments(queue, job))

    call = call_of(job)
    try:
        with context.running(call):
            value = await limited(attempt, queue.timeout, job.signal)
            await _finished(queue, job, middleware)
    finally:
        await call.last_offset()
    return value


def run_plain_job(
    queue: JobHandler,
    job: Job,
    *,
    limited: Limited,
    on_loop: OnLoop,
    run_limited: RunLimited = run_limited,
) -> Any:
    """The same for a plain job, in this thread. The loop is used for what is asynchronous after
    all: middleware, and what a plain function returns to be awaited.

    Args:
        run_limited: of `TimeLimits`, where several jobs run in turn.
    """
    call = call_of(job)
    try:
        with context.running(call):
            attempt = partial(_attempt, queue, job, on_loop)
            value = run_limited(queue.timeout, job.signal, attempt)
            if value is not None and inspect.isawaitable(value):
                value = on_loop(_awaited(value, queue, job, limited))
            if queue.hooks.finished is not None:
                try:
                    call_here(queue.hooks.finished, on_loop, job)
                except Exception as error:
                    tell_failure(queue, error, job, on_loop)
    finally:
        if call.sent and not all(sending.done for sending in call.sent):
            # Sent from asynchronous code, and not awaited there.
            on_loop(call.last_offset())
    return value


def tell_failure(queue: JobHandler, error: BaseException, job: Job, on_loop: OnLoop) -> None:
    """Call `on_error` from outside the loop; its own failure is logged."""
    hook = queue.hooks.error
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
    """What the job runs in: its user's call.

    Args:
        part: of the attempt, if it is not the attempt itself: both may send the same.
    """
    life = f"{job.job_id} {job.revived} {part}"
    return Call(user=job.user, user_id=id_of_user(job.user), job_id=life)


async def _finished(queue: JobHandler, job: Job, middleware: Middleware) -> None:
    """Call `on_job_finished`, whose failure does not make the job fail: its work is done."""
    if queue.hooks.finished is None:
        return
    try:
        await middleware.call(queue.hooks.finished, job)
    except Exception as error:
        await middleware.failed(queue.hooks, error, job)


def _attempt(queue: JobHandler, job: Job, on_loop: OnLoop) -> Any:
    if queue.hooks.started is not None:
        call_here(queue.hooks.started, on_loop, job)
    return queue.handler(_payload(queue, job), **_arguments(queue, job))


async def _awaited(value: Awaitable[Any], queue: JobHandler, job: Job, limited: Limited) -> Any:
    return await limited(partial(_await, value), queue.timeout, job.signal)


async def _await(value: Awaitable[T]) -> T:
    return await value


def _payload(queue: JobHandler, job: Job) -> Any:
    if queue.validate is None:
        return job.payload
    try:
        return queue.validate(job.payload)
    except ClientError as error:
        raise InvalidPush(f"{queue.name} does not take this payload: {error}") from None


def _arguments(queue: JobHandler, job: Job) -> dict[str, Any]:
    """What the handler asks for by name."""
    return {name: getattr(job, name) for name in queue.parameters}

"""Running middleware: in order, and without harm."""

import asyncio
import contextvars
import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from queue_run.application.requests import SentMessage
from queue_run.contracts.ids import ConnectionId
from queue_run.process import context
from worker.application.middleware import Hook, Hooks, Middleware

MESSAGE = SentMessage(data="hi", connection=ConnectionId("s1-1"))
BROKEN = RuntimeError("the handler is broken")


def hook(function: Callable[..., Any], *, is_async: bool = False, inline: bool = False) -> Hook:
    return Hook(function=function, file="sockets/a.py", is_async=is_async, inline=inline)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, thread_name_prefix="test-hook") as pool:
        yield pool


@pytest.fixture
async def middleware(threads: ThreadPoolExecutor) -> Middleware:
    return Middleware(asyncio.get_running_loop(), threads)


def where(*arguments: Any) -> tuple[str, tuple[Any, ...]]:
    return threading.current_thread().name, arguments


async def where_async(*arguments: Any) -> tuple[str, tuple[Any, ...]]:
    await asyncio.sleep(0)
    return where(*arguments)


async def test_an_asynchronous_hook_runs_on_the_loop(middleware: Middleware) -> None:
    assert await middleware.call(hook(where_async, is_async=True), 1, 2) == where(1, 2)


async def test_a_plain_hook_runs_in_a_thread_and_may_block(middleware: Middleware) -> None:
    name, arguments = await middleware.call(hook(where), 1)
    assert name.startswith("test-hook")
    assert arguments == (1,)


async def test_a_default_runs_at_once(middleware: Middleware) -> None:
    assert await middleware.call(hook(where, inline=True), 1) == where(1)


async def test_an_asynchronous_hook_that_looks_plain_is_awaited(middleware: Middleware) -> None:
    assert await middleware.call(hook(functools.partial(where_async, 1)), 2) == where(1, 2)


async def test_a_plain_hook_sees_the_current_call(middleware: Middleware) -> None:
    call = context.Call(user={"id": "ann"}, user_id=None)
    with context.running(call):
        assert await middleware.call(hook(context.current)) is call


async def test_what_a_hook_raises_goes_to_the_caller(middleware: Middleware) -> None:
    def fail() -> None:
        raise BROKEN

    with pytest.raises(RuntimeError, match="the handler is broken"):
        await middleware.call(hook(fail))


# on_error


async def test_on_error_is_told_of_the_error_and_of_who_asked(middleware: Middleware) -> None:
    told: list[Any] = []
    hooks = Hooks(error=hook(lambda error, asker: told.append((error, asker))))
    await middleware.failed(hooks, BROKEN, None)
    assert told == [(BROKEN, None)]


async def test_without_on_error_nobody_is_told(middleware: Middleware) -> None:
    await middleware.failed(Hooks(), BROKEN, None)


@pytest.mark.parametrize(
    "failure", [ValueError("broken too"), SystemExit(3), asyncio.CancelledError()]
)
async def test_an_on_error_that_fails_is_logged_with_its_file_and_the_first_error(
    middleware: Middleware, caplog: pytest.LogCaptureFixture, failure: BaseException
) -> None:
    async def fail(error: BaseException, asker: object) -> None:
        raise failure

    await middleware.failed(Hooks(error=hook(fail, is_async=True)), BROKEN, None)
    [record] = caplog.records
    assert "on_error of sockets/a.py failed" in record.message
    assert "the handler is broken" in record.message
    assert record.exc_info is not None
    assert record.exc_info[1] is failure


async def test_the_end_of_the_process_is_not_taken_for_a_failure(middleware: Middleware) -> None:
    started = asyncio.Event()

    async def wait(error: BaseException, asker: object) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(
        middleware.failed(Hooks(error=hook(wait, is_async=True)), BROKEN, None)
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# on_message_sent


async def test_on_message_sent_is_called_in_the_order_of_the_messages(
    middleware: Middleware,
) -> None:
    told: list[Any] = []

    async def note(message: SentMessage) -> None:
        told.append(message.data)

    for number in range(20):
        sent = SentMessage(data=number)
        middleware.sent(Hooks(sent=hook(note, is_async=True)), sent, None)
    assert told == []
    await settled(middleware)
    assert told == list(range(20))


async def settled(middleware: Middleware) -> None:
    # What was handed to the loop begins in its next round.
    await asyncio.sleep(0)
    await middleware.settled()


async def test_on_message_sent_is_called_from_any_thread(
    middleware: Middleware, threads: ThreadPoolExecutor
) -> None:
    told: list[SentMessage] = []
    hooks = Hooks(sent=hook(told.append))
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(threads, middleware.sent, hooks, MESSAGE, None)
    await settled(middleware)
    assert told == [MESSAGE]


async def test_without_on_message_sent_nobody_is_told(middleware: Middleware) -> None:
    middleware.sent(Hooks(), MESSAGE, None)
    await settled(middleware)


async def test_what_on_message_sent_sends_is_told_to_nobody(middleware: Middleware) -> None:
    calls: list[context.Call | None] = []
    hooks = Hooks(sent=hook(lambda message: calls.append(context.current())))
    with context.running(context.Call(user={"id": "ann"}, user_id=None, on_sent=calls.append)):  # type: ignore[arg-type]
        middleware.sent(hooks, MESSAGE, None)
        await settled(middleware)
    [call] = calls
    assert call is not None
    assert call.user_id is None
    assert call.on_sent is not None
    call.on_sent(MESSAGE)
    assert len(calls) == 1


@pytest.mark.parametrize("failure", [ValueError("broken"), "exit", asyncio.CancelledError()])
async def test_an_on_message_sent_that_fails_is_logged_and_told_to_on_error(
    middleware: Middleware, caplog: pytest.LogCaptureFixture, failure: BaseException | str
) -> None:
    told: list[tuple[BaseException, object]] = []
    seen: list[Any] = []

    async def fail(message: SentMessage) -> None:
        seen.append(message.data)
        if isinstance(failure, str):
            sys.exit(failure)
        if message.data == "hi":
            raise failure

    hooks = Hooks(
        sent=hook(fail, is_async=True), error=hook(lambda *each: told.append(each), inline=True)
    )
    middleware.sent(hooks, MESSAGE, None)
    middleware.sent(hooks, SentMessage(data="next"), None)
    await settled(middleware)
    # The loop goes on, and so do the messages.
    assert seen == ["hi", "next"]
    assert type(told[0][0]) is (SystemExit if isinstance(failure, str) else type(failure))
    records = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "on_message_sent of sockets/a.py failed" in records[0].message


async def test_settled_waits_for_hooks_that_run(middleware: Middleware) -> None:
    may_end = asyncio.Event()
    ended: list[bool] = []

    async def wait(message: SentMessage) -> None:
        await may_end.wait()
        ended.append(True)

    middleware.sent(Hooks(sent=hook(wait, is_async=True)), MESSAGE, None)
    await asyncio.sleep(0)
    waiting = asyncio.create_task(middleware.settled())
    await asyncio.sleep(0)
    assert not waiting.done()
    may_end.set()
    await waiting
    assert ended == [True]


async def test_context_of_the_sender_is_not_changed(middleware: Middleware) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="sender")
    hooks = Hooks(sent=hook(lambda message: variable.set("hook"), inline=True))
    middleware.sent(hooks, MESSAGE, None)
    await settled(middleware)
    assert variable.get() == "sender"

"""Answers for both worlds: there at once in synchronous code, awaited in asynchronous code."""

import asyncio
import contextlib
import logging
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from typing import Any, Generic, TypeVar

from queue_run.errors import NotAwaited

log = logging.getLogger(__name__)

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Answer(Generic[T_co]):
    """The result of a call that works in synchronous and in asynchronous code.

    In synchronous code the work is done when the call returns, a failure was raised there, and
    `value` is its result. In asynchronous code, await the call: that raises a failure, and gives
    the result. Without the await the work is done all the same, and a failure is logged.
    """

    # No slots: the answer to a push is a text as well. What most answers never have stands here.
    #: Whether it is known how the work ended.
    done: bool = False
    _value: Any = None
    _error: BaseException | None = None
    #: Whether somebody was told how it ended, who may then ask for the value.
    _told: bool = False
    #: The work, where an executor does it.
    _work: "Future[Any] | None" = None
    #: What wakes those who wait; None until somebody does.
    _waiters: list[Callable[[], object]] | None = None

    @property
    def value(self) -> T_co:
        """The result; in asynchronous code only when the answer was awaited.

        Raises:
            NotAwaited: in asynchronous code, before that.
        """
        if not self._told:
            raise NotAwaited
        return self.now()

    def now(self) -> T_co:
        """The result of work that has ended, which may be asked for from now on; or raise what
        went wrong. For whoever has seen that it has ended."""
        self._told = True
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[no-any-return]

    def peek(self) -> T_co | None:
        """The result as far as it is known, and without waiting for it."""
        return self._value  # type: ignore[no-any-return]

    def __await__(self) -> Generator[Any, None, T_co]:
        if not self.done:
            try:
                yield from self.settled().__await__()
            except asyncio.CancelledError:
                # Nobody waits any more: what has not begun need not be done.
                if self._work is not None:
                    self._work.cancel()
                raise
        return self.now()

    async def settled(self) -> None:
        """Wait until it is known how the work ended, without raising."""
        if self.done:
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self.on_end(lambda: _wake(loop, waiter))
        await waiter

    def complete(self, value: Any, error: BaseException | None = None) -> None:
        """Say how the work ended, once, on whichever thread did it."""
        self._value = value
        if error is not None:
            self._error = error
        self.done = True
        waiters = self._waiters
        while waiters:
            try:
                wake = waiters.pop()
            except IndexError:
                # Whoever waits has seen the end, and has taken it out.
                break
            wake()

    def settle(self, value: Any) -> None:
        """Say the result of work that was done here and now, in synchronous code."""
        self._value = value
        self.done = self._told = True

    def on_end(self, wake: Callable[[], object]) -> None:
        """Call this once when the work has ended, at once if it has."""
        waiters = self._waiters
        if waiters is None:
            # In one step: others may begin to wait on other threads.
            waiters = self.__dict__.setdefault("_waiters", [])
        waiters.append(wake)
        # Whoever completes it may not have seen it.
        if self.done:
            with contextlib.suppress(ValueError):
                waiters.remove(wake)
                wake()

    def follow(self, work: "Future[Any]") -> None:
        """Let it be the answer of what an executor does."""
        self._work = work
        work.add_done_callback(self._take)

    def result(self) -> T_co:
        """The former spelling of `value`, until 1.0."""
        warn_of_former("result()", "value")
        return self.value

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        if not self._told:
            return f"<{type(self).__name__}: await it>"
        return f"<{type(self).__name__}: {self._error or self._value!r}>"

    def _take(self, work: "Future[Any]") -> None:
        self._work = None
        if work.cancelled():
            self.complete(None, asyncio.CancelledError())
        elif (error := work.exception()) is not None:
            self.complete(None, error)
        else:
            self.complete(work.result())

    def _unheard(self, error: BaseException) -> None:
        log.error("what nobody waited for has failed: %s", error)

    def __del__(self) -> None:
        error = self._error
        if error is not None and not self._told and not isinstance(error, asyncio.CancelledError):
            self._unheard(error)


def answered(executor: Callable[[], Executor], work: Callable[[], T]) -> Answer[T]:
    """The answer of this work: done here and now in synchronous code, in asynchronous code by the
    executor."""
    answer: Answer[T] = Answer()
    do(answer, executor, work)
    return answer


def do(answer: Answer[T], executor: Callable[[], Executor], work: Callable[[], T]) -> None:
    """The same for an answer of a class of its own."""
    if in_event_loop():
        answer.follow(executor().submit(work))
    else:
        answer.settle(work())


def in_event_loop() -> bool:
    """True if the calling code runs on an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def warn_of_former(spelling: str, now: str, stacklevel: int = 3) -> None:
    """Warn of a spelling that works until 1.0, at the line that has called what calls this."""
    text = f"{spelling} is a former spelling, which ends with queue-run 1.0: use {now}"
    warnings.warn(text, DeprecationWarning, stacklevel)


def _wake(loop: asyncio.AbstractEventLoop, waiter: "asyncio.Future[None]") -> None:
    try:
        loop.call_soon_threadsafe(_finish, waiter)
    except RuntimeError:
        log.debug("the loop that waited for an answer is closed")


def _finish(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)

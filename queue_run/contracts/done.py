"""Answers for both worlds: awaited in asynchronous code, there at once in synchronous code."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


class Done(Awaitable[T]):
    """What was asked for: awaited in asynchronous code, there at once in synchronous code."""

    def __init__(self, future: "asyncio.Future[T] | None", value: T | None = None) -> None:
        self._future = future
        self._value = value

    def result(self) -> T:
        """The answer, in synchronous code.

        Raises:
            RuntimeError: in asynchronous code, which must await it.
        """
        if self._future is not None:
            raise RuntimeError("in asynchronous code, await it")
        return self._value  # type: ignore[return-value]

    def __await__(self) -> Generator[Any, None, T]:
        if self._future is None:
            return self.result()
        return (yield from self._future.__await__())

    def __bool__(self) -> bool:
        if self._future is not None:
            raise TypeError("its answer is not there yet: await it")
        return bool(self._value)


def done(executor: Callable[[], Executor], work: Callable[[], T]) -> Done[T]:
    """Do the work: here and now in synchronous code, in asynchronous code by the executor."""
    future = in_the_background(executor, work)
    return Done(future, work() if future is None else None)


def in_the_background(
    executor: Callable[[], Executor], work: Callable[[], T]
) -> "asyncio.Future[T] | None":
    """In asynchronous code, the work in the executor; None in synchronous code."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop.run_in_executor(executor(), work)

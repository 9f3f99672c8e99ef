"""Answers for synchronous and asynchronous code."""

import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from queue_run.contracts.done import done


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1, thread_name_prefix="there") as executor:
        yield executor


def where() -> str:
    return threading.current_thread().name


def fail() -> str:
    raise LookupError("no answer")


def test_in_synchronous_code_the_answer_is_there_at_once(executor: Executor) -> None:
    answer = done(lambda: executor, where)
    assert answer.result() == where()
    assert answer
    assert not done(lambda: executor, lambda: 0)


def test_in_synchronous_code_a_failure_is_raised_at_once(executor: Executor) -> None:
    with pytest.raises(LookupError):
        done(lambda: executor, fail)


async def test_in_asynchronous_code_the_answer_is_awaited(executor: Executor) -> None:
    assert (await done(lambda: executor, where)).startswith("there")
    with pytest.raises(LookupError):
        await done(lambda: executor, fail)


async def test_in_asynchronous_code_there_is_no_answer_without_the_await(
    executor: Executor,
) -> None:
    answer = done(lambda: executor, where)
    with pytest.raises(RuntimeError, match="await it"):
        answer.result()
    with pytest.raises(TypeError, match="await it"):
        bool(answer)
    await answer


def test_what_is_there_may_be_awaited_elsewhere(executor: Executor) -> None:
    with pytest.raises(StopIteration) as ended:
        next(done(lambda: executor, lambda: 7).__await__())
    assert ended.value.value == 7

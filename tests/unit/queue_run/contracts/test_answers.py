"""Answers: one object for synchronous and asynchronous code."""

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from queue_run import Answer, NotAwaited
from queue_run.contracts.answers import answered
from tests.waiting import DEADLINE, eventually

GONE = LookupError("gone")


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1, thread_name_prefix="there") as executor:
        yield executor


def where() -> str:
    return threading.current_thread().name


def fail() -> str:
    raise LookupError("no answer")


# Synchronous code


def test_in_synchronous_code_the_answer_is_there_at_once(executor: Executor) -> None:
    answer = answered(lambda: executor, where)
    assert answer.done
    assert answer.value == where()


def test_in_synchronous_code_a_failure_is_raised_at_once(executor: Executor) -> None:
    with pytest.raises(LookupError):
        answered(lambda: executor, fail)


def test_an_answer_is_as_true_as_its_value(executor: Executor) -> None:
    assert answered(lambda: executor, lambda: 7)
    assert not answered(lambda: executor, lambda: 0)


def test_what_is_there_may_be_awaited_elsewhere(executor: Executor) -> None:
    with pytest.raises(StopIteration) as ended:
        next(answered(lambda: executor, lambda: 7).__await__())
    assert ended.value.value == 7


def test_what_is_there_shows_itself(executor: Executor) -> None:
    assert repr(answered(lambda: executor, lambda: 7)) == "<Answer: 7>"


# Asynchronous code


async def test_in_asynchronous_code_the_answer_is_awaited(executor: Executor) -> None:
    assert (await answered(lambda: executor, where)).startswith("there")
    with pytest.raises(LookupError):
        await answered(lambda: executor, fail)


async def test_a_value_is_there_when_it_was_awaited(executor: Executor) -> None:
    answer = answered(lambda: executor, where)
    with pytest.raises(NotAwaited, match="no value before it was awaited: await it"):
        _ = answer.value
    with pytest.raises(NotAwaited):
        bool(answer)
    assert repr(answer) == "<Answer: await it>"
    value = await answer
    assert answer.value == value


async def test_a_value_that_has_come_is_none_before_it_was_awaited(executor: Executor) -> None:
    answer = answered(lambda: executor, where)
    await answer.settled()
    assert answer.done
    with pytest.raises(NotAwaited):
        _ = answer.value


async def test_the_value_of_a_failure_raises_it_again(executor: Executor) -> None:
    answer = answered(lambda: executor, fail)
    for _ in range(2):
        with pytest.raises(LookupError):
            await answer
        with pytest.raises(LookupError):
            _ = answer.value


async def test_awaiting_an_open_answer_waits_for_its_completion() -> None:
    answer: Answer[int] = Answer()
    waiting = asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    assert not waiting.done()
    answer.complete(7)
    assert await waiting == 7


async def test_another_thread_may_complete_it() -> None:
    answer: Answer[int] = Answer()
    waiting = asyncio.ensure_future(answer)
    await asyncio.to_thread(answer.complete, 7)
    async with asyncio.timeout(DEADLINE):
        assert await waiting == 7


@pytest.mark.parametrize("before", [True, False])
async def test_awaiting_raises_what_went_wrong(before: bool) -> None:
    answer: Answer[int] = Answer()
    if before:
        answer.complete(None, GONE)
    waiting = asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    if not before:
        answer.complete(None, GONE)
    with pytest.raises(LookupError) as caught:
        await waiting
    assert caught.value is GONE


async def test_settled_waits_without_raising() -> None:
    answer: Answer[int] = Answer()
    waiting = asyncio.create_task(answer.settled())
    await asyncio.sleep(0)
    assert not waiting.done()
    answer.complete(None, GONE)
    await waiting
    await answer.settled()
    with pytest.raises(LookupError):
        answer.now()


async def test_one_loop_may_await_it_many_times() -> None:
    answer: Answer[int] = Answer()
    waiting = [asyncio.ensure_future(answer) for _ in range(3)]
    await asyncio.sleep(0)
    answer.complete(7)
    assert await asyncio.gather(*waiting) == [7] * 3
    assert await answer == 7


def test_two_loops_may_await_it() -> None:
    answer: Answer[int] = Answer()
    waiting = threading.Barrier(3)

    async def wait() -> int:
        task = asyncio.ensure_future(answer)
        await asyncio.sleep(0)
        waiting.wait(DEADLINE)
        return await task

    with ThreadPoolExecutor(2) as pool:
        values = [pool.submit(lambda: asyncio.run(wait())) for _ in range(2)]
        waiting.wait(DEADLINE)
        answer.complete(7)
        assert [each.result(DEADLINE) for each in values] == [7, 7]


async def test_a_waiter_that_gave_up_does_not_disturb_the_others() -> None:
    answer: Answer[int] = Answer()
    impatient, patient = asyncio.ensure_future(answer), asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    answer.complete(7)
    assert await patient == 7


def test_a_loop_that_has_closed_does_not_disturb_the_others() -> None:
    answer: Answer[int] = Answer()

    async def wait_and_leave() -> None:
        task = asyncio.ensure_future(answer)
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(wait_and_leave())
    answer.complete(7)
    assert answer.peek() == 7


# Failures that nobody looks at


@pytest.fixture
def collected() -> None:
    """What other tests have dropped is gone, and says so no more."""
    gc.collect()


@pytest.mark.usefixtures("collected")
async def test_a_failure_that_nobody_waited_for_is_logged(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answered(lambda: executor, fail)
        eventually(lambda: caplog.messages, what="a line in the log")
    assert caplog.messages == ["what nobody waited for has failed: no answer"]


@pytest.mark.usefixtures("collected")
async def test_what_was_given_up_before_it_began_is_no_failure(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    begun, busy = [], threading.Event()
    executor.submit(busy.wait, DEADLINE)
    answer = answered(lambda: executor, lambda: begun.append(1))
    waiting = asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    busy.set()
    with pytest.raises(asyncio.CancelledError):
        await answer
    await answered(lambda: executor, where)
    del answer, waiting
    gc.collect()
    assert (begun, caplog.messages) == ([], [])


# Former spellings


def test_result_is_a_former_spelling(executor: Executor) -> None:
    answer: Any = answered(lambda: executor, where)
    with pytest.warns(DeprecationWarning, match=r"result\(\) .* queue-run 1\.0: use value") as told:
        assert answer.result() == where()
    assert [each.filename for each in told] == [__file__]


async def test_result_has_to_be_awaited_as_well(executor: Executor) -> None:
    answer: Any = answered(lambda: executor, where)
    with pytest.warns(DeprecationWarning, match="result"), pytest.raises(RuntimeError):
        answer.result()
    await answer

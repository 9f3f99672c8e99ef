"""Receipts: one object for synchronous and asynchronous code."""

import asyncio
import gc
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from queue_run.channel.receipts import Receipt, finished
from queue_run.errors import ChannelUnavailable
from queue_run.storage.fullness import Fullness
from tests.waiting import DEADLINE, eventually

GONE = ChannelUnavailable("Redis took no message")


# Synchronous code


def test_an_open_receipt_is_not_done() -> None:
    receipt = Receipt()
    assert not receipt.done
    assert receipt.offset is None


def test_a_complete_receipt_has_its_offset() -> None:
    receipt = Receipt()
    receipt.complete("17-3")
    assert receipt.done
    receipt.wait(DEADLINE)
    assert receipt.offset == "17-3"


def test_waiting_ends_when_another_thread_completes() -> None:
    receipt = Receipt()
    thread = threading.Thread(target=receipt.complete, args=("17-3",))
    thread.start()
    receipt.wait(DEADLINE)
    assert receipt.offset == "17-3"
    thread.join()


def test_waiting_has_an_end() -> None:
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 seconds"):
        Receipt().wait(0.01)


def test_waiting_raises_what_went_wrong() -> None:
    receipt = Receipt()
    receipt.complete(None, GONE)
    with pytest.raises(ChannelUnavailable) as caught:
        receipt.wait(DEADLINE)
    assert caught.value is GONE


def test_a_receipt_without_a_failure_raises_nothing() -> None:
    finished("1-0").raise_error()


# Asynchronous code


async def test_awaiting_a_complete_receipt_gives_it_back() -> None:
    receipt = finished("17-3")
    assert await receipt is receipt


async def test_awaiting_an_open_receipt_waits_for_its_completion() -> None:
    receipt = Receipt()
    waiting = asyncio.ensure_future(receipt)
    await asyncio.sleep(0)
    assert not waiting.done()
    receipt.complete("17-3")
    assert (await waiting).offset == "17-3"


async def test_another_thread_may_complete_it() -> None:
    receipt = Receipt()
    waiting = asyncio.ensure_future(receipt)
    await asyncio.to_thread(receipt.complete, "17-3")
    async with asyncio.timeout(DEADLINE):
        assert (await waiting).offset == "17-3"


@pytest.mark.parametrize("before", [True, False])
async def test_awaiting_raises_what_went_wrong(before: bool) -> None:
    receipt = Receipt()
    if before:
        receipt.complete(None, GONE)
    waiting = asyncio.ensure_future(receipt)
    await asyncio.sleep(0)
    if not before:
        receipt.complete(None, GONE)
    with pytest.raises(ChannelUnavailable):
        await waiting


async def test_settled_waits_without_raising() -> None:
    receipt = Receipt()
    waiting = asyncio.create_task(receipt.settled())
    await asyncio.sleep(0)
    assert not waiting.done()
    receipt.complete(None, GONE)
    await waiting
    await receipt.settled()


async def test_one_loop_may_await_it_many_times() -> None:
    receipt = Receipt()
    waiting = [asyncio.ensure_future(receipt) for _ in range(3)]
    await asyncio.sleep(0)
    receipt.complete("17-3")
    assert await asyncio.gather(*waiting) == [receipt] * 3
    assert await receipt is receipt


def test_two_loops_may_await_it() -> None:
    receipt = Receipt()
    waiting = threading.Barrier(3)

    async def wait() -> str | None:
        task = asyncio.ensure_future(receipt)
        await asyncio.sleep(0)
        waiting.wait(DEADLINE)
        return (await task).offset

    with ThreadPoolExecutor(2) as pool:
        offsets = [pool.submit(lambda: asyncio.run(wait())) for _ in range(2)]
        waiting.wait(DEADLINE)
        receipt.complete("17-3")
        assert [each.result(DEADLINE) for each in offsets] == ["17-3", "17-3"]


async def test_a_waiter_that_gave_up_does_not_disturb_the_others() -> None:
    receipt = Receipt()
    impatient, patient = asyncio.ensure_future(receipt), asyncio.ensure_future(receipt)
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    receipt.complete("17-3")
    assert (await patient).offset == "17-3"


def test_a_loop_that_has_closed_does_not_disturb_the_others() -> None:
    receipt = Receipt()

    async def wait_and_leave() -> None:
        task = asyncio.ensure_future(receipt)
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(wait_and_leave())
    receipt.complete("17-3")
    assert receipt.offset == "17-3"


# Failures that nobody looks at


def failed() -> Receipt:
    receipt = Receipt()
    # An error of its own: an error that was raised holds on to all that it passed through.
    receipt.complete(None, ChannelUnavailable("Redis took no message"))
    return receipt


def test_a_failure_that_nobody_waited_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        failed()
        logged = eventually(lambda: caplog.text, what="a line in the log")
    assert "a message that nobody waited for was not sent: Redis took no message" in logged


def test_a_full_redis_is_logged_once_for_all_that_nobody_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fullness = Fullness(logging.getLogger("receipts"), "they are not sent")
    monkeypatch.setattr("queue_run.channel.receipts._fullness", fullness)
    for _ in range(5):
        receipt = Receipt()
        receipt.complete(None, ChannelUnavailable("OOM command: used memory > 'maxmemory'"))
        del receipt
    eventually(lambda: fullness, what="a refusal")
    gc.collect()
    [line] = [line for line in caplog.messages if "not sent" in line]
    assert line.startswith("Redis is full")


@pytest.fixture
def collected() -> None:
    """What other tests have dropped is gone, and says so no more."""
    gc.collect()


@pytest.mark.usefixtures("collected")
async def test_a_failure_that_was_raised_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    receipt = failed()
    with pytest.raises(ChannelUnavailable):
        await receipt
    del receipt
    gc.collect()
    assert "was not sent" not in caplog.text


@pytest.mark.usefixtures("collected")
def test_a_success_that_nobody_waited_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    finished("1-0")
    Receipt()
    gc.collect()
    assert caplog.text == ""

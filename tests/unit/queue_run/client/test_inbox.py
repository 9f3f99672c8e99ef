"""Messages between the socket and the one that takes them."""

import asyncio
from typing import Any

import pytest

from queue_run.client.inbox import GAP, Inbox, InboxEnded
from tests.waiting import eventually_async


async def all_of(inbox: Inbox) -> list[Any]:
    inbox.end()
    items = []
    try:
        while True:
            items.append(await inbox.get())
    except InboxEnded:
        return items


async def test_messages_come_out_as_they_went_in() -> None:
    inbox = Inbox(10)
    for message in (1, None, "x"):
        inbox.put(message)
    assert len(inbox) == 3
    assert await all_of(inbox) == [1, None, "x"]


async def test_a_gap_keeps_its_place_and_two_are_one() -> None:
    inbox = Inbox(10)
    inbox.put(1)
    inbox.put_gap()
    inbox.put_gap()
    inbox.put(2)
    assert await all_of(inbox) == [1, GAP, 2]


async def test_a_message_wakes_the_one_that_waits() -> None:
    inbox = Inbox(10)
    getting = asyncio.create_task(inbox.get())
    await eventually_async(lambda: inbox.taken, what="a taker")
    inbox.put("x")
    assert await getting == "x"


async def test_the_end_wakes_the_one_that_waits() -> None:
    inbox = Inbox(10)
    getting = asyncio.create_task(inbox.get())
    await eventually_async(lambda: inbox.taken, what="a taker")
    inbox.end()
    with pytest.raises(InboxEnded):
        await getting


async def test_one_task_at_a_time_takes_messages() -> None:
    inbox = Inbox(10)
    getting = asyncio.create_task(inbox.get())
    await eventually_async(lambda: inbox.taken, what="a taker")
    with pytest.raises(RuntimeError, match="one task at a time"):
        await inbox.get()
    inbox.put("x")
    assert await getting == "x"


async def test_a_taker_that_was_cancelled_takes_nothing_with_it() -> None:
    inbox = Inbox(10)
    getting = asyncio.create_task(inbox.get())
    await eventually_async(lambda: inbox.taken, what="a taker")
    inbox.put("x")
    getting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await getting
    assert await inbox.get() == "x"


async def test_the_reader_goes_on_when_half_is_empty() -> None:
    inbox = Inbox(4)
    for number in range(4):
        inbox.put(number)
    assert inbox.full
    waiting = asyncio.create_task(inbox.room())
    await asyncio.sleep(0)
    await inbox.get()
    await asyncio.sleep(0)
    assert not waiting.done()
    await inbox.get()
    await waiting
    assert not inbox.full


async def test_the_reader_can_be_released() -> None:
    inbox = Inbox(1)
    inbox.put(1)
    waiting = asyncio.create_task(inbox.room())
    await asyncio.sleep(0)
    inbox.release()
    await waiting
    inbox.release()


async def test_what_is_dropped_is_told_as_a_gap_in_its_place() -> None:
    inbox = Inbox(3)
    for number in range(5):
        inbox.put(number)
        inbox.drop_oldest()
    assert not inbox.full
    assert await all_of(inbox) == [GAP, 3, 4]


async def test_a_cleared_inbox_hands_out_nothing() -> None:
    inbox = Inbox(1)
    inbox.put(1)
    inbox.drop_oldest()
    inbox.put(2)
    inbox.clear()
    assert await all_of(inbox) == []

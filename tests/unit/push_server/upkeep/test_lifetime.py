"""Until when a push server lives."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from push_server.upkeep.lifetime import Lifetime
from tests.waiting import DEADLINE


async def for_ever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise LookupError("a defect")


async def leave() -> None:
    raise SystemExit(0)


async def come_back() -> None:
    pass


@pytest.mark.parametrize(("work", "said"), [(fail, "a defect"), (leave, ""), (come_back, "")])
async def test_work_that_ends_unexpectedly_is_told_and_ends_the_process(
    caplog: pytest.LogCaptureFixture, work: Callable[[], Coroutine[Any, Any, None]], said: str
) -> None:
    lifetime = Lifetime()
    await lifetime.guard(work(), "the hub")
    assert lifetime.ending
    assert lifetime.lost == "the hub"
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == ("CRITICAL", "the hub ended unexpectedly")
    assert said in caplog.text


async def test_the_first_part_that_ended_is_named() -> None:
    lifetime = Lifetime()
    lifetime.lose("hub")
    lifetime.lose("presence")
    assert lifetime.lost == "hub"


async def test_work_that_is_cancelled_at_the_end_is_not_missed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lifetime = Lifetime()
    task = asyncio.create_task(lifetime.guard(for_ever(), "the hub"))
    await asyncio.sleep(0)
    lifetime.end()
    lifetime.finish()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lifetime.lost is None
    assert not caplog.records


async def test_a_thread_that_is_lost_ends_it_too() -> None:
    lifetime = Lifetime()
    await asyncio.to_thread(lifetime.lose_from_thread, "the dispatcher")
    async with asyncio.timeout(DEADLINE):
        await lifetime.ended()
    assert lifetime.lost == "the dispatcher"


async def test_who_waits_for_its_end_waits_for_limited_time() -> None:
    lifetime = Lifetime()
    await lifetime.ended(within=0.01)
    assert not lifetime.ending

"""Jobs on their way to the broker; tests/acceptance has the broker."""

import asyncio
from collections.abc import Iterator

import pytest

from push_server.http.pushes import MAX_PUSHES, Busy, Places, Pushes
from queue_run.contracts.manifest import QueueFacts
from queue_run.errors import DispatchUnavailable, InvalidPush
from queue_run.jobs.stored import JobFacts, StoredJob
from tests.unit.push_server.building import RecordingPusher
from tests.waiting import DEADLINE

FIFO = QueueFacts(fifo=True)
PLAIN = QueueFacts()


def job(job_id: str = "1", group: str | None = None) -> StoredJob:
    return StoredJob(id=job_id, queue="mail", payload=job_id, facts=JobFacts(group=group))


@pytest.fixture
def pusher() -> Iterator[RecordingPusher]:
    made = RecordingPusher()
    yield made
    made.broker_there.set()


@pytest.fixture
def pushes(pusher: RecordingPusher) -> Iterator[Pushes]:
    made = Pushes(pusher, publish_timeout=DEADLINE)
    yield made
    pusher.broker_there.set()
    made.close(DEADLINE)


# Pushing


async def test_a_push_gives_the_id_of_the_job_that_runs(
    pushes: Pushes, pusher: RecordingPusher
) -> None:
    assert await pushes.push(job("7"), PLAIN, None) == "7"
    pusher.answer = "first"
    assert await pushes.push(job("8", group="a"), FIFO, "d") == "first"
    assert pusher.jobs == [job("7"), job("8", group="a")]
    assert pusher.dedupes == [None, "d"]


async def test_the_loop_goes_on_while_a_job_is_pushed(
    pushes: Pushes, pusher: RecordingPusher
) -> None:
    pusher.broker_there.clear()
    pushing = asyncio.create_task(pushes.push(job(), PLAIN, None))
    await asyncio.sleep(0)
    assert pusher.jobs == []
    pusher.broker_there.set()
    assert await pushing == "1"


async def test_jobs_are_pushed_in_the_order_in_which_they_came(
    pushes: Pushes, pusher: RecordingPusher
) -> None:
    pusher.broker_there.clear()
    names = [str(number) for number in range(20)]
    pushing = [asyncio.create_task(pushes.push(job(name), PLAIN, None)) for name in names]
    await asyncio.sleep(0)
    pusher.broker_there.set()
    assert await asyncio.gather(*pushing) == names
    assert [each.id for each in pusher.jobs] == names


async def test_what_the_broker_refuses_is_raised(pushes: Pushes, pusher: RecordingPusher) -> None:
    pusher.failure = DispatchUnavailable("gone")
    with pytest.raises(DispatchUnavailable, match="gone"):
        await pushes.push(job(), PLAIN, None)
    pusher.failure = None
    with pytest.raises(InvalidPush):
        await pushes.push(job(), FIFO, None)


async def test_who_waits_in_line_for_too_long_is_never_pushed(pusher: RecordingPusher) -> None:
    pushes = Pushes(pusher, publish_timeout=0.05)
    pusher.broker_there.clear()
    first = asyncio.create_task(pushes.push(job("first"), PLAIN, None))
    await asyncio.to_thread(pusher.begun.wait)
    with pytest.raises(DispatchUnavailable, match=r"took no job within 0\.1 seconds"):
        await pushes.push(job("second"), PLAIN, None)
    # Whether the broker has the first one is not known before its push ends.
    assert not first.done()
    pusher.broker_there.set()
    assert await first == "first"
    pushes.close(DEADLINE)
    assert [each.id for each in pusher.jobs] == ["first"]


async def test_more_than_may_wait_is_refused(pushes: Pushes, pusher: RecordingPusher) -> None:
    pusher.broker_there.clear()
    waiting = [
        asyncio.create_task(pushes.push(job(str(number)), PLAIN, None))
        for number in range(MAX_PUSHES)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await pushes.push(job(), PLAIN, None)
    pusher.broker_there.set()
    assert len(await asyncio.gather(*waiting)) == MAX_PUSHES
    assert await pushes.push(job("later"), PLAIN, None) == "later"


async def test_a_place_is_free_again_after_a_failure(
    pushes: Pushes, pusher: RecordingPusher
) -> None:
    pusher.failure = DispatchUnavailable("gone")
    for _ in range(MAX_PUSHES + 1):
        with pytest.raises(DispatchUnavailable):
            await pushes.push(job(), PLAIN, None)


def test_places_are_counted() -> None:
    places = Places(2)
    with places.taken():
        with places.taken(), pytest.raises(Busy), places.taken():
            pass
        with places.taken():
            pass


# The end


async def test_draining_waits_for_requests_that_are_under_way(pushes: Pushes) -> None:
    pushes.begin()
    pushes.begin()
    draining = asyncio.create_task(pushes.wind_down(DEADLINE))
    pushes.end()
    await asyncio.sleep(0)
    assert not draining.done()
    pushes.end()
    await asyncio.wait_for(draining, DEADLINE)


async def test_without_requests_there_is_nothing_to_wait_for(pushes: Pushes) -> None:
    await asyncio.wait_for(pushes.wind_down(10 * DEADLINE), DEADLINE)


async def test_draining_gives_up_after_its_time(
    pushes: Pushes, caplog: pytest.LogCaptureFixture
) -> None:
    pushes.begin()
    await pushes.wind_down(0.01)
    assert "1 pushes were not answered in time" in caplog.text

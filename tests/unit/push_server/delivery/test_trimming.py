"""What a push server cuts off its streams, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from push_server.delivery.trimming import Trimming
from queue_run.channel.listener import Entry, parse_offset
from queue_run.storage.clock import Clock
from tests.processes import RedisServer
from tests.unit.push_server.building import new_trimming
from tests.waiting import eventually_async

KIB = 1024


class World:
    """Two streams, and who trims them."""

    def __init__(self, url: str, namespace: str) -> None:
        self.client: Any = redis.asyncio.Redis.from_url(url)
        self.own, self.broadcast = f"{namespace}:own", f"{namespace}:broadcast"
        self.clock = Clock()
        self.trimming = self.new()

    def new(self, **options: Any) -> Trimming:
        return new_trimming(
            self.client,
            self.clock,
            **{
                "own": self.own,
                "broadcast": self.broadcast,
                "kept_bytes": 10_000_000,
                "max_bytes": 10_000_000,
                **options,
            },
        )

    async def add(self, stream: str, size: int = 5 * KIB, *, age: float = 0.0) -> Entry:
        """An entry with a block of its own, so that it is cut alone.

        Args:
            age: seconds since it was written.
        """
        milliseconds = round((self.clock.now() - age) * 1000)
        offset = await self.client.xadd(stream, {"e": b"x" * size}, id=f"{milliseconds}-*")
        return Entry(stream, parse_offset(offset), b"x" * size)

    async def held(self, stream: str) -> int:
        length: int = await self.client.xlen(stream)
        return length


@pytest.fixture
async def world(redis_server: RedisServer, namespace: str) -> AsyncIterator[World]:
    world = World(redis_server.url, namespace)
    await world.client.ping()
    yield world
    await world.client.delete(world.own, world.broadcast)
    await world.client.aclose()


async def test_what_was_read_is_cut_off_but_for_the_last(world: World) -> None:
    for _ in range(10):
        world.trimming.has_read(await world.add(world.own))
    unread = await world.add(world.own)
    await world.trimming.trim()
    found = [parse_offset(offset) for offset, _ in await world.client.xrange(world.own)]
    assert len(found) == 2
    assert found[-1] == unread.offset


async def test_an_outcome_of_a_session_stays_and_all_that_follows(world: World) -> None:
    for number in range(10):
        entry = await world.add(world.own)
        if number == 6:
            world.trimming.keep(entry)
        world.trimming.has_read(entry)
    await world.trimming.trim()
    assert await world.held(world.own) == 4


async def test_an_outcome_of_a_session_goes_when_the_session_is_over(world: World) -> None:
    trimming = world.new(kept_time=60.0)
    for age in (300, 200, 62, 50, 0):
        entry = await world.add(world.own, age=age)
        trimming.keep(entry)
        trimming.has_read(entry)
    await trimming.trim()
    assert await world.held(world.own) == 2


async def test_what_is_kept_is_bounded_in_bytes(world: World) -> None:
    trimming = world.new(kept_bytes=100 * KIB)
    for _ in range(100):
        entry = await world.add(world.own)
        trimming.keep(entry)
        trimming.has_read(entry)
    await trimming.trim()
    assert 15 <= await world.held(world.own) <= 21


async def test_few_notes_are_taken_of_many_outcomes(world: World) -> None:
    trimming = world.new(kept_bytes=320 * KIB)
    entries = [Entry(world.own, (1000 + number // 100, 0), b"x" * 64) for number in range(50_000)]
    for entry in entries:
        trimming.keep(entry)
        trimming.has_read(entry)
    assert len(trimming._pieces) <= 50_000 * 64 // (10 * KIB) + 1


async def test_the_broadcast_stream_is_cut_when_it_is_too_large(world: World) -> None:
    trimming = world.new(max_bytes=1_000_000)
    for _ in range(30):
        trimming.has_read(await world.add(world.broadcast, 100 * KIB))
    await trimming.trim()
    assert await world.client.memory_usage(world.broadcast) <= 1_000_000
    assert await world.held(world.broadcast) >= 5


async def test_it_trims_in_the_background_as_soon_as_much_was_read(world: World) -> None:
    trimming = world.new(interval=3600.0, kept_bytes=16 * KIB)
    task = asyncio.create_task(trimming.run())
    for _ in range(10):
        trimming.has_read(await world.add(world.own))
    length = world.client.xlen

    async def cut() -> bool:
        return int(await length(world.own)) <= 2

    for _ in range(3000):
        if await cut():
            break
        await asyncio.sleep(0.02)
    assert await cut()
    task.cancel()


async def test_a_redis_that_is_away_is_only_waited_for(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    class Away:
        async def xtrim(self, *_: Any, **__: Any) -> None:
            raise redis.ConnectionError("away")

    trimming = new_trimming(Away(), world.clock, own=world.own)
    trimming.has_read(await world.add(world.own))
    task = asyncio.create_task(trimming.run())
    await eventually_async(lambda: "streams are trimmed later: away" in caplog.text, what="a line")
    assert not task.done()
    task.cancel()


async def test_a_redis_that_does_not_measure_is_told_of(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing:
        async def execute_command(self, *_: Any) -> None:
            raise redis.ResponseError("NOPERM")

    trimming = new_trimming(Refusing(), world.clock, broadcast=world.broadcast)
    trimming.has_read(await world.add(world.broadcast, 100 * KIB))
    await trimming.trim()
    assert "bounded in entries only" in caplog.text

"""A push server's clock, and what it hears of others'."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from push_server.upkeep.timekeeper import Timekeeper
from queue_run.contracts.keys import Keys
from queue_run.process.clock_reports import ClockReport
from queue_run.storage.clock import Clock


class SkewedRedis:
    """A real Redis, as a process sees it whose machine's clock is off."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.ahead = 0.0

    async def time(self) -> tuple[int, int]:
        seconds, microseconds = await self._client.time()
        return round(seconds - self.ahead), microseconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class World:
    def __init__(self, url: str, namespace: str) -> None:
        self.client: Any = redis.asyncio.Redis.from_url(url)
        self.redis = SkewedRedis(self.client)
        self.keys = Keys(namespace)
        self.clock = Clock()
        self.timekeeper = Timekeeper(
            self.redis, self.keys, self.clock, name="push server a", expiry=15
        )


@pytest.fixture
async def world(redis_url: str, namespace: str) -> AsyncIterator[World]:
    world = World(redis_url, namespace)
    yield world
    await world.client.aclose()


async def test_it_measures(world: World) -> None:
    await world.timekeeper.measure()
    assert world.clock.measured
    await world.timekeeper.renew()
    assert world.timekeeper.notes == []
    assert not await world.client.exists(world.keys.clocks)


async def test_its_own_clock_is_among_the_notes_until_it_is_right(world: World) -> None:
    world.redis.ahead = -60
    await world.timekeeper.renew()
    [note] = world.timekeeper.notes
    assert note.startswith("the clock of push server a is ")
    assert note.endswith("s behind that of Redis")
    world.redis.ahead = 0
    await world.timekeeper.renew()
    await world.timekeeper.renew()
    assert world.timekeeper.notes == []
    assert not await world.client.exists(world.keys.clocks)


async def test_workers_are_named_and_those_that_are_gone_forgotten(world: World) -> None:
    await world.timekeeper.measure()
    told = ClockReport(20.0, world.clock.now() + 10)
    gone = ClockReport(5.0, world.clock.now() - 10)
    await world.client.hset(
        world.keys.clocks, mapping={"worker w@h": told.encode(), "worker dead": gone.encode()}
    )
    await world.timekeeper.renew()
    assert world.timekeeper.notes == ["the clock of worker w@h is 20.0 s ahead of that of Redis"]
    assert await world.client.hkeys(world.keys.clocks) == [b"worker w@h"]

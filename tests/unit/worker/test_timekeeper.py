"""A worker's clock, kept by Redis'."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from queue_run.contracts.keys import Keys
from queue_run.process.clock_reports import notes
from queue_run.storage.clock import Clock
from tests.processes import RedisServer
from tests.waiting import eventually
from worker.timekeeper import Timekeeper


class SkewedRedis:
    """A real Redis, as a process sees it whose machine's clock is off."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.ahead = 0.0

    def time(self) -> tuple[int, int]:
        seconds, microseconds = self._client.time()
        return round(seconds - self.ahead), microseconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class World:
    """A timekeeper, and what it has left in Redis."""

    def __init__(self, url: str, namespace: str) -> None:
        self.client: Any = redis.Redis.from_url(url)
        self.redis = SkewedRedis(self.client)
        self.keys = Keys(namespace)
        self.clock = Clock()
        self.timekeeper = Timekeeper(
            self.redis,  # type: ignore[arg-type]
            self.keys,
            self.clock,
            name="worker one@here",
            expiry=15,
        )

    @property
    def notes(self) -> list[str]:
        return notes(self.client.hgetall(self.keys.clocks), self.clock.now())[0]


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[World]:
    world = World(redis_url, namespace)
    yield world
    world.client.close()


def test_a_right_clock_leaves_nothing(world: World) -> None:
    world.timekeeper.renew()
    assert world.clock.measured
    assert not world.client.exists(world.keys.clocks)


def test_a_wrong_clock_is_told_of_until_it_is_right(world: World) -> None:
    world.redis.ahead = 3600
    world.timekeeper.renew()
    [note] = world.notes
    assert note.startswith("the clock of worker one@here is 3")
    assert note.endswith("s ahead of that of Redis")
    assert 0 < world.client.pttl(world.keys.clocks) <= 15_000
    world.redis.ahead = 0
    world.timekeeper.renew()
    assert not world.client.exists(world.keys.clocks)


def test_a_full_redis_is_told_of_a_wrong_clock(own_redis: RedisServer, namespace: str) -> None:
    world = World(own_redis.url, namespace)
    world.client.config_set("maxmemory", "1")
    world.redis.ahead = 3600
    world.timekeeper.renew()
    [note] = world.notes
    assert "worker one@here" in note
    world.client.close()


def test_in_the_background_it_goes_on_whatever_redis_does(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    answers: list[Any] = [redis.ConnectionError("away"), (int(time.time()) - 90, 0)]

    def answer() -> Any:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    world.redis.time = answer  # type: ignore[method-assign]
    thread = world.timekeeper.run_in_background(0.01)
    eventually(lambda: world.notes, what="what was told")
    thread.stop()
    assert "Redis' clock cannot be asked for: away" in caplog.text

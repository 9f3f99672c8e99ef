"""Telling Redis who is here. What its scripts do: tests/contract/test_presence.py."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import redis

from push_server.upkeep.presence import Presence
from queue_run.contracts.ids import ServerId, UserId
from queue_run.contracts.keys import Keys
from queue_run.presence import AT_ONCE
from queue_run.settings import Settings
from tests.processes import RedisServer
from tests.waiting import DEADLINE, eventually_async

ANN, BOB = UserId("ann"), UserId("bob")
#: Seconds that no test lasts.
LONG = 600.0


class World:
    def __init__(self, url: str, namespace: str) -> None:
        self.client = redis.Redis.from_url(url, decode_responses=True)
        self.keys = Keys(namespace)
        self.settings = Settings(
            redis_url=url,
            namespace=namespace,
            offline_delay=LONG,
            heartbeat_interval=0.5,
        )

    def online(self) -> set[str]:
        try:
            return set(cast("dict[str, str]", self.client.hgetall(self.keys.online)))
        except redis.RedisError:
            return set()

    async def until_online(self, *users: str) -> None:
        await eventually_async(lambda: self.online() == set(users), what=f"{users} to be online")

    @property
    def events(self) -> list[tuple[str, bool]]:
        entries = cast("list[Any]", self.client.xrange(self.keys.presence))
        return [(fields["user"], fields["online"] == "1") for _, fields in entries]

    @asynccontextmanager
    async def server(
        self, name: str = "s1", *, watched: Callable[[], bool] = lambda: True
    ) -> AsyncIterator[Presence]:
        presence = Presence(self.settings, ServerId(name), watched=watched)
        task = asyncio.create_task(presence.run())
        try:
            yield presence
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(DEADLINE):
                await presence.close()


@pytest.fixture
def world(redis_server: RedisServer, namespace: str) -> World:
    return World(redis_server.url, namespace)


async def test_redis_is_told_who_comes_and_goes(world: World) -> None:
    async with world.server() as here:
        here.arrived(ANN)
        here.arrived(BOB)
        await world.until_online("ann", "bob")
        here.left(ANN)
        await world.until_online("bob")
    assert world.events == [("ann", True), ("bob", True)]


async def test_the_embedded_redis_is_told_too(fake_redis_url: str, namespace: str) -> None:
    world = World(fake_redis_url, namespace)
    async with world.server() as here:
        here.arrived(ANN)
        await world.until_online("ann")
        here.left(ANN)
        await world.until_online()
    assert world.events == [("ann", True)]


async def test_very_many_users_are_told_of_in_parts(world: World) -> None:
    users = [UserId(f"u{number}") for number in range(2 * AT_ONCE + 1)]
    async with world.server() as here:
        for user in users:
            here.arrived(user)
        await world.until_online(*users)
        for user in users[1:]:
            here.left(user)
        await world.until_online("u0")


async def test_who_comes_and_goes_before_redis_is_told_never_was_there(world: World) -> None:
    async with world.server() as here:
        here.arrived(ANN)
        here.left(ANN)
        here.arrived(BOB)
        await world.until_online("bob")
    assert world.events == [("bob", True)]


async def test_a_server_that_ends_takes_its_users_along(world: World) -> None:
    async with world.server() as here:
        here.arrived(ANN)
        await world.until_online("ann")
    assert world.online() == set()
    assert world.client.exists(world.keys.push_servers, world.keys.users_of(ServerId("s1"))) == 0


async def test_an_application_that_wants_to_know_nothing_is_told_nothing(world: World) -> None:
    async with world.server(watched=lambda: False) as here:
        here.arrived(ANN)
        await world.until_online("ann")
    assert world.events == []


async def test_a_server_lives_by_its_sweeps(world: World) -> None:
    async with world.server():
        await eventually_async(
            lambda: world.client.zscore(world.keys.push_servers, "s1"), what="its heartbeat"
        )
        first = world.client.zscore(world.keys.push_servers, "s1")
        await eventually_async(
            lambda: world.client.zscore(world.keys.push_servers, "s1") != first, what="the next"
        )


async def test_an_emptied_redis_is_told_again_without_telling_the_application(
    own_redis: RedisServer, namespace: str
) -> None:
    world = World(own_redis.url, namespace)
    async with world.server() as here:
        here.arrived(ANN)
        here.arrived(BOB)
        await world.until_online("ann", "bob")
        # Whoever has just gone is still to be told of.
        here.left(BOB)
        await world.until_online("ann")
        world.client.flushall()
        await world.until_online("ann")
        await eventually_async(
            lambda: world.client.zrange(world.keys.leaving, 0, -1) == ["bob"], what="bob's leave"
        )
    assert world.events == []


async def test_after_an_outage_the_last_state_wins(
    own_redis: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(own_redis.url, namespace)
    async with world.server() as here:
        here.arrived(ANN)
        await world.until_online("ann")
        own_redis.kill()
        here.left(ANN)
        here.arrived(BOB)
        await eventually_async(lambda: "is not told" in caplog.text, what="the warning")
        here.arrived(ANN)
        here.left(ANN)
        await asyncio.to_thread(own_redis.start)
        await world.until_online("bob")
        assert world.events == [("ann", True), ("bob", True)]
        assert world.client.zrange(world.keys.leaving, 0, -1) == ["ann"]


async def test_an_older_copy_of_redis_is_brought_up_to_date_in_silence(world: World) -> None:
    """What is there after a failover to a replica that had not had everything."""
    async with world.server() as here:
        here.arrived(ANN)
        await world.until_online("ann")
        # In one step: the server may sweep between two.
        with world.client.pipeline(transaction=True) as older:
            older.delete(world.keys.online, world.keys.users_of(ServerId("s1")))
            older.sadd(world.keys.users_of(ServerId("s1")), "bob")
            older.hset(world.keys.online, "bob", 1)
            older.execute()
        # It compares when it has lost its link, and only then.
        here._registered = False
        here.arrived(ANN)
        await world.until_online("ann")
    assert world.events == [("ann", True)]


async def test_a_server_that_was_taken_for_dead_tells_of_its_users_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with world.server() as here:
        here.arrived(ANN)
        await world.until_online("ann")
        # As another server leaves it, and what it reports in the end.
        world.client.delete(world.keys.online, world.keys.users_of(ServerId("s1")))
        world.client.zrem(world.keys.push_servers, "s1")
        await world.until_online("ann")
    assert "registers again" in caplog.text
    assert world.events == [("ann", True), ("ann", True)]


async def test_a_server_that_cannot_say_goodbye_ends_all_the_same(
    own_redis: RedisServer, namespace: str
) -> None:
    world = World(own_redis.url, namespace)
    async with world.server() as here:
        here.arrived(ANN)
        await world.until_online("ann")
        own_redis.kill()


async def test_in_a_full_redis_who_goes_is_told_and_who_comes_when_there_is_room(
    own_redis: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(own_redis.url, namespace)
    async with world.server() as here:
        here.arrived(ANN)
        await world.until_online("ann")
        world.client.config_set("maxmemory", "1")
        here.arrived(BOB)
        await eventually_async(lambda: "Redis is full" in caplog.text, what="a refusal")
        here.left(ANN)
        await world.until_online()
        first = world.client.zscore(world.keys.push_servers, "s1")
        await eventually_async(
            lambda: world.client.zscore(world.keys.push_servers, "s1") != first, what="a heartbeat"
        )
        world.client.config_set("maxmemory", "0")
        await world.until_online("bob")
    assert world.events == [("ann", True), ("bob", True)]
    assert "registers again" not in caplog.text
    assert caplog.text.count("Redis is full") == 1

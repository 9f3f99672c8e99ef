"""The epoch of the channel, on every Redis it runs on."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from redis.exceptions import OutOfMemoryError

from push_server.delivery import epoch
from queue_run.contracts.keys import Keys
from tests.processes import RedisServer
from tests.waiting import DEADLINE


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(redis_url, socket_timeout=None)
    yield client
    await client.aclose()


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


async def test_the_first_who_asks_makes_it_and_all_others_find_it(
    client: redis.asyncio.Redis, keys: Keys
) -> None:
    found = await asyncio.gather(*(epoch.read(client, keys) for _ in range(10)))
    assert len(set(found)) == 1
    assert len(found[0]) == 12
    assert await client.ttl(keys.epoch) == -1


async def test_after_redis_has_lost_it_there_is_another(
    client: redis.asyncio.Redis, keys: Keys
) -> None:
    before = await epoch.read(client, keys)
    await client.delete(keys.epoch)
    after = await epoch.read(client, keys)
    assert after != before
    assert await epoch.read(client, keys) == after


async def test_it_is_found_in_a_redis_that_takes_no_writes(namespace: str) -> None:
    server = RedisServer()
    try:
        async with redis.asyncio.Redis.from_url(server.url, socket_timeout=DEADLINE) as own:
            keys = Keys(namespace)
            made = await epoch.read(own, keys)
            await own.config_set("maxmemory", "1")
            assert await epoch.read(own, keys) == made
            await own.delete(keys.epoch)
            with pytest.raises(OutOfMemoryError):
                await epoch.read(own, keys)
    finally:
        server.end()


async def test_one_that_has_ended_is_replaced_once(client: redis.asyncio.Redis, keys: Keys) -> None:
    ended = await epoch.read(client, keys)
    await epoch.renew(client, keys, ended, "following")
    begun = await epoch.read(client, keys)
    assert begun == "following"
    # Another push server has seen the same end.
    await epoch.renew(client, keys, ended, "another")
    assert await epoch.read(client, keys) == begun


async def test_the_end_of_one_that_is_gone_makes_none(
    client: redis.asyncio.Redis, keys: Keys
) -> None:
    await epoch.renew(client, keys, "ended", "following")
    assert not await client.exists(keys.epoch)


def test_what_follows_on_another_redis_is_the_same_for_all_who_see_it() -> None:
    following = epoch.after("epoch", "history")
    assert following == epoch.after("epoch", "history") != "epoch"
    assert len(following) == len(epoch.new_epoch())
    assert len({following, epoch.after("epoch", "other"), epoch.after("other", "history")}) == 3


def test_epochs_are_never_the_same() -> None:
    assert len({epoch.new_epoch() for _ in range(1000)}) == 1000


async def test_what_is_written_now_stands_behind_the_last_offset_and_the_clock(
    client: redis.asyncio.Redis, keys: Keys
) -> None:
    seconds, _ = await client.time()
    milliseconds, _ = await epoch.not_before(client, keys)
    assert seconds * 1000 <= milliseconds < (seconds + 60) * 1000
    ahead = milliseconds + 3_600_000
    await client.xadd(keys.broadcast, {"e": b"x"}, id=f"{ahead}-7")
    assert await epoch.not_before(client, keys) == (ahead, 7)
    # What was there counts: Redis goes on behind it.
    await client.xtrim(keys.broadcast, maxlen=0, approximate=False)
    assert await epoch.not_before(client, keys) == (ahead, 7)
    await client.delete(keys.broadcast)
    assert await epoch.not_before(client, keys) < (ahead, 7)

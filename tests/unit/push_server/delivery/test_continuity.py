"""A gap, and the epoch that follows, in a whole push server on a real Redis."""

import asyncio
from typing import Any

import msgspec
import pytest
import redis

from push_server.delivery import epoch
from queue_run.channel.listener import Gap
from queue_run.contracts.keys import Keys
from queue_run.settings import Settings
from tests.clients import connected
from tests.unit.push_server.test_app import ENVELOPED, address, offer, running, settings
from tests.waiting import eventually_async

__all__ = ["settings"]


async def test_after_a_gap_outcomes_that_waited_are_released(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[bool] = []
    async with running(settings) as server:
        monkeypatch.setattr(server._hub, "release", lambda: released.append(True))
        server._continuity.take_gap(Gap(Keys(settings.namespace).broadcast, went_back=False))
    assert released == [True]
    assert "were lost before this server could read them" in caplog.text


async def test_when_redis_has_lost_the_epoch_every_client_is_told(settings: Settings) -> None:
    offer(settings)
    keys = Keys(settings.namespace)
    async with running(settings) as server, connected(address(server), **ENVELOPED) as client:
        before = await client.receive()
        await client.send({"type": "start"})
        with redis.Redis.from_url(settings.redis_url) as admin:
            await asyncio.to_thread(admin.delete, keys.epoch)
            gap = await client.receive()
            assert gap["type"] == "gap"
            assert gap["epoch"] == admin.get(keys.epoch).decode() != before["epoch"]


async def test_when_offsets_begin_anew_another_epoch_begins(settings: Settings) -> None:
    keys = Keys(settings.namespace)
    async with running(settings) as server:
        before = server._position.epoch
        server._continuity.take_gap(Gap(keys.broadcast, went_back=True))
        assert server._position.epoch != before
        with redis.Redis.from_url(settings.redis_url) as admin:
            await eventually_async(
                lambda: admin.get(keys.epoch) == server._position.epoch.encode(),
                what="the epoch that all share",
            )
        assert server._position.epoch != before


async def test_an_epoch_that_ends_while_it_is_read_is_not_in_force_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = msgspec.structs.replace(settings, heartbeat_interval=600)
    keys = Keys(settings.namespace)
    async with running(calm) as server:
        ended = server._position.epoch
        read = epoch.read

        async def read_and_lose(*arguments: Any) -> str:
            found = await read(*arguments)
            server._continuity.take_gap(Gap(keys.broadcast, went_back=True))
            return found

        monkeypatch.setattr(epoch, "read", read_and_lose)
        await server._continuity.check()
        assert server._position.epoch != ended
        monkeypatch.setattr(epoch, "read", read)
        await server._continuity.check()
        assert server._position.epoch != ended
        assert server._position.epoch == await read(server._redis, keys)


async def test_another_redis_ends_the_epoch_for_all_push_servers_alike(settings: Settings) -> None:
    offer(settings)
    keys = Keys(settings.namespace)
    gap = Gap(keys.broadcast, went_back=False, history="another")
    async with running(settings) as server, connected(address(server), **ENVELOPED) as client:
        before = (await client.receive())["epoch"]
        await client.send({"type": "start"})
        server._continuity.take_gap(gap)
        told = await client.receive()
        assert (told["type"], told["epoch"]) == ("gap", epoch.after(before, "another"))
        with redis.Redis.from_url(settings.redis_url) as admin:
            await eventually_async(
                lambda: admin.get(keys.epoch) == told["epoch"].encode(), what="the others' epoch"
            )
        # One that learns it from the epoch first has nothing more to tell.
        server._continuity.take_gap(gap)
        await server._continuity.check()
        server._continuity.take_gap(gap._replace(history="a third"))
        again = await client.receive()
        assert again["epoch"] == epoch.after(told["epoch"], "a third")


class OfListener:
    """What is asked of a listener about epochs."""

    connected = False


async def test_another_epoch_waits_for_a_listener_that_may_know_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(settings.namespace)
    async with running(settings) as server:
        listener = OfListener()
        monkeypatch.setattr(server._continuity, "_listener", listener)
        before = server._position.epoch
        with redis.Redis.from_url(settings.redis_url) as admin:
            admin.set(keys.epoch, "following")
        await server._continuity.check()
        assert server._position.epoch == before
        listener.connected = True
        await server._continuity.check()
        assert server._position.epoch == "following"

"""A gap, and the epoch that follows, in a whole push server on a real Redis."""

import asyncio
from typing import Any

import msgspec
import pytest
import redis

from push_server.delivery import epoch
from queue_run.channel.listener import LostEntries
from queue_run.contracts.envelopes import ToConnection, encode
from queue_run.contracts.ids import ConnectionId
from queue_run.contracts.keys import Keys
from queue_run.contracts.messages import Form, Message
from queue_run.settings import Settings
from tests.clients import connected
from tests.unit.push_server.serving import ENVELOPED, address, offer, running, settings
from tests.waiting import eventually_async

__all__ = ["settings"]


async def test_after_a_gap_outcomes_that_waited_are_released(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[bool] = []
    async with running(settings) as server:
        monkeypatch.setattr(server.parts.delivery.hub, "release", lambda: released.append(True))
        server.parts.delivery.continuity.take_gap(
            LostEntries(Keys(settings.namespace).broadcast, went_back=False)
        )
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
        before = server.parts.ground.position.epoch
        server.parts.delivery.continuity.take_gap(LostEntries(keys.broadcast, went_back=True))
        assert server.parts.ground.position.epoch != before
        with redis.Redis.from_url(settings.redis_url) as admin:
            await eventually_async(
                lambda: admin.get(keys.epoch) == server.parts.ground.position.epoch.encode(),
                what="the epoch that all share",
            )
        assert server.parts.ground.position.epoch != before


async def test_an_epoch_that_ends_while_it_is_read_is_not_in_force_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = msgspec.structs.replace(settings, heartbeat_interval=600)
    keys = Keys(settings.namespace)
    async with running(calm) as server:
        ended = server.parts.ground.position.epoch
        read = epoch.read

        async def read_and_lose(*arguments: Any) -> str:
            found = await read(*arguments)
            server.parts.delivery.continuity.take_gap(LostEntries(keys.broadcast, went_back=True))
            return found

        monkeypatch.setattr(epoch, "read", read_and_lose)
        await server.parts.delivery.continuity.check()
        assert server.parts.ground.position.epoch != ended
        monkeypatch.setattr(epoch, "read", read)
        await server.parts.delivery.continuity.check()
        assert server.parts.ground.position.epoch != ended
        assert server.parts.ground.position.epoch == await read(server.parts.ground.redis, keys)


async def test_another_redis_ends_the_epoch_for_all_push_servers_alike(settings: Settings) -> None:
    offer(settings)
    keys = Keys(settings.namespace)
    gap = LostEntries(keys.broadcast, went_back=False, history="another")
    async with running(settings) as server, connected(address(server), **ENVELOPED) as client:
        before = (await client.receive())["epoch"]
        await client.send({"type": "start"})
        server.parts.delivery.continuity.take_gap(gap)
        told = await client.receive()
        assert (told["type"], told["epoch"]) == ("gap", epoch.after(before, "another"))
        with redis.Redis.from_url(settings.redis_url) as admin:
            await eventually_async(
                lambda: admin.get(keys.epoch) == told["epoch"].encode(), what="the others' epoch"
            )
        # One that learns it from the epoch first has nothing more to tell.
        server.parts.delivery.continuity.take_gap(gap)
        await server.parts.delivery.continuity.check()
        server.parts.delivery.continuity.take_gap(gap._replace(history="a third"))
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
        monkeypatch.setattr(server.parts.delivery.continuity, "_listener", listener)
        before = server.parts.ground.position.epoch
        with redis.Redis.from_url(settings.redis_url) as admin:
            admin.set(keys.epoch, "following")
        await server.parts.delivery.continuity.check()
        assert server.parts.ground.position.epoch == before
        listener.connected = True
        await server.parts.delivery.continuity.check()
        assert server.parts.ground.position.epoch == "following"


async def test_a_push_server_that_starts_has_what_was_sent_before(settings: Settings) -> None:
    offer(settings)
    keys = Keys(settings.namespace)
    with redis.Redis.from_url(settings.redis_url) as admin:
        async with running(settings) as first, connected(address(first), **ENVELOPED) as client:
            place = await client.receive()
        for number in range(3):
            message = Message(Form.JSON, str(number).encode())
            sent = ToConnection(
                connection=ConnectionId("x-1"), session=place["session"], message=message
            )
            await asyncio.to_thread(admin.xadd, keys.broadcast, {"e": encode(sent)})
    async with running(settings) as second, connected(address(second), **ENVELOPED) as client:
        await client.receive()
        asked = {name: place[name] for name in ("session", "offset", "epoch")}
        await client.send({"type": "resume", **asked})
        got = [await client.receive() for _ in range(4)]
    assert [each.get("data", each["type"]) for each in got] == [0, 1, 2, "resumed"]

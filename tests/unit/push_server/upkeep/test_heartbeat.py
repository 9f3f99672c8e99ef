"""What each heartbeat of a push server brings."""

import asyncio

import redis

from queue_run.contracts.keys import Keys
from queue_run.settings import Settings
from tests.clients import connected
from tests.unit.push_server.serving import ENVELOPED, address, offer, running, settings, status
from tests.waiting import eventually_async

__all__ = ["settings"]


async def test_a_stream_that_redis_has_lost_is_made_anew(settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url) as client:
        async with running(settings) as server:
            stream = Keys(settings.namespace).server(server.parts.ground.id)
            client.delete(stream)
            await eventually_async(lambda: client.exists(stream), what="the new stream")


async def test_a_push_server_becomes_ready_when_workers_are_there(settings: Settings) -> None:
    async with running(settings) as server:
        assert (await status(server, "/readyz"))[0] == 503
        await asyncio.to_thread(offer, settings)
        await eventually_async(
            lambda: server.parts.ground.application.available, what="the workers"
        )
        assert (await status(server, "/readyz"))[0] == 200


async def test_rooms_are_written_anew_when_redis_has_lost_them(settings: Settings) -> None:
    offer(settings)
    keys = Keys(settings.namespace)
    async with running(settings) as server, connected(address(server), **ENVELOPED) as client:
        session = (await client.receive())["session"]
        [connection] = server.parts.ground.connections
        server.parts.ground.connections.join(connection, "hall")
        with redis.Redis.from_url(settings.redis_url) as admin:
            await asyncio.to_thread(admin.delete, keys.epoch)
            await eventually_async(
                lambda: admin.hkeys(keys.session_rooms(session)) == [b"hall"],
                what="the rooms in Redis",
            )

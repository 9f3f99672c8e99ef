"""The rooms of sessions, kept on every Redis they run on."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import cast

import pytest
import redis
import redis.asyncio

from push_server import session_rooms
from push_server.connections import Connection, Connections
from push_server.protocols.envelope import Envelope
from push_server.session_rooms import ASKED_AT_ONCE, PIPELINE_SIZE, SessionRooms
from queue_run.ids import ServerId
from queue_run.keys import Keys
from tests.processes import RedisServer
from tests.unit.push_server.building import new_connection
from tests.unit.recorders import RecordingTransport
from tests.waiting import eventually_async

LONG = 600.0


class Kept:
    """Rooms that are kept in Redis, while the block lasts."""

    def __init__(self, url: str, keys: Keys, session_time: float) -> None:
        self.connections = Connections(ServerId("s1"))
        # Without a time limit of redis-py's, as in the push server: that loses a cancellation now
        # and then (see the listener).
        self.client = redis.asyncio.Redis.from_url(url, socket_timeout=None)
        self.rooms = SessionRooms(self.client, keys, self.connections, session_time=session_time)

    def connect(self, session: str, *rooms: str) -> Connection:
        connection = new_connection(self.connections, RecordingTransport())
        connection.envelope = Envelope(session, (0, 0))
        self.connections.add(connection)
        for room in rooms:
            self.connections.join(connection, room)
        return connection

    async def until(self, session: str, *rooms: str) -> None:
        """Wait until these are the session's rooms in Redis."""
        found: list[str] | None = None

        async def look() -> None:
            nonlocal found
            while found != sorted(rooms):
                found = await self.rooms.of(session)
                found = None if found is None else sorted(found)
                await asyncio.sleep(0.01)

        looking = asyncio.create_task(look())
        await eventually_async(looking.done, what=f"the rooms {rooms}")


@contextlib.asynccontextmanager
async def keeping(url: str, keys: Keys, session_time: float = LONG) -> AsyncIterator[Kept]:
    kept = Kept(url, keys, session_time)
    task = asyncio.create_task(kept.rooms.run())
    try:
        yield kept
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await kept.client.aclose()


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


async def test_joins_and_leaves_are_found_by_another_push_server(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as here, keeping(redis_url, keys) as there:
        for room in ("hall", "küche", "a b"):
            here.rooms.changed("s", room, joins=True)
        here.rooms.changed("other", "cellar", joins=True)
        here.rooms.changed("s", "hall", joins=False)
        await there.until("s", "a b", "küche")
        await there.until("other", "cellar")
        assert await there.rooms.of("nobody") == []


class CountingClient:
    """Redis, and how often it is asked."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self.pipelines = 0

    def pipeline(self, *, transaction: bool) -> object:
        self.pipelines += 1
        return self._client.pipeline(transaction=transaction)


async def test_many_who_ask_at_once_share_round_trips_and_each_gets_its_own_rooms(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as kept:
        count = 3 * ASKED_AT_ONCE
        for number in range(count):
            kept.rooms.changed(f"s{number}", f"room {number}", joins=True)
        await kept.until(f"s{count - 1}", f"room {count - 1}")
        counting = CountingClient(kept.client)
        kept.rooms._client = cast("redis.asyncio.Redis", counting)
        answers = await asyncio.gather(*(kept.rooms.of(f"s{number}") for number in range(count)))
        assert answers == [[f"room {number}"] for number in range(count)]
        assert counting.pipelines == 3
        assert await kept.rooms.of("s1") == ["room 1"]


async def test_one_who_waits_no_more_takes_nothing_from_the_others(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as kept:
        kept.rooms.changed("s", "hall", joins=True)
        await kept.until("s", "hall")
        leaves = asyncio.create_task(kept.rooms.of("other"))
        stays = asyncio.create_task(kept.rooms.of("s"))
        asyncio.get_running_loop().call_soon(leaves.cancel)
        assert await stays == ["hall"]
        assert leaves.cancelled()


async def test_changes_are_written_in_order_however_many_they_are(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as kept:
        for number in range(PIPELINE_SIZE * 2 + 1):
            kept.rooms.changed("s", "hall", joins=number % 2 == 0)
        kept.rooms.changed("s", "last", joins=True)
        await kept.until("s", "hall", "last")


async def test_what_a_session_leaves_behind_ends_by_itself(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys, session_time=100) as kept:
        kept.rooms.changed("s", "hall", joins=True)
        await kept.until("s", "hall")
        left = await kept.client.pttl(keys.session_rooms("s"))
        assert 240_000 < left <= 300_000


async def test_rooms_of_those_who_are_here_are_renewed(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys, session_time=0.05) as kept:
        kept.connect("s", "hall", "kitchen")
        await kept.until("s", "hall", "kitchen")
        await kept.client.delete(keys.session_rooms("s"))
        await kept.until("s", "hall", "kitchen")


async def test_rooms_are_renewed_however_much_changes(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys, session_time=0.2) as kept:
        kept.connect("s", "hall")

        async def change() -> None:
            while True:
                kept.rooms.changed("other", "cellar", joins=True)
                await asyncio.sleep(0.01)

        changing = asyncio.create_task(change())
        try:
            await kept.until("s", "hall")
        finally:
            changing.cancel()


async def test_after_a_loss_rooms_are_written_at_once(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys) as kept:
        kept.connect("s", "hall")
        kept.rooms.renew()
        await kept.until("s", "hall")


async def test_while_redis_is_away_nothing_is_known_and_nothing_forgotten(
    own_redis: RedisServer,
    keys: Keys,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_rooms, "PAUSE", 0.02)
    caplog.set_level(logging.WARNING)
    async with keeping(own_redis.url, keys) as kept:
        kept.rooms.changed("s", "hall", joins=True)
        await kept.until("s", "hall")
        await asyncio.to_thread(own_redis.kill)
        kept.rooms.changed("s", "hall", joins=False)
        kept.rooms.changed("s", "kitchen", joins=True)
        await eventually_async(lambda: "wait for Redis" in caplog.text, what="the warning")
        assert await kept.rooms.of("s") is None
        await asyncio.to_thread(own_redis.start)
        await kept.until("s", "kitchen")

"""The rooms of sessions, kept on every Redis they run on."""

import asyncio
import contextlib
import itertools
import logging
import random
import signal
from collections.abc import AsyncIterator
from typing import cast

import pytest
import redis
import redis.asyncio

from push_server.clients.connections import Connection, Connections
from push_server.clients.envelope import Session
from push_server.delivery import session_rooms
from push_server.delivery.position import Position
from push_server.delivery.room_history import RoomHistory
from push_server.delivery.session_rooms import ASKED_AT_ONCE, PIPELINE_SIZE, SessionRooms
from queue_run.contracts.ids import ServerId, UserId
from queue_run.contracts.keys import Keys
from tests.processes import RedisServer
from tests.unit.push_server.building import new_connection
from tests.unit.recorders import RecordingTransport
from tests.waiting import DEADLINE, eventually_async

LONG = 600.0
#: As in `storage/lua/include/rooms`.
MOST_CHANGES, MOST_LEFT = 12, 64


class Kept:
    """Rooms that are kept in Redis, while the block lasts."""

    def __init__(self, url: str, keys: Keys, session_time: float) -> None:
        self.connections = Connections(ServerId("s1"))
        # Without a time limit of redis-py's, as in the push server: that loses a cancellation now
        # and then (see the listener).
        self.client = redis.asyncio.Redis.from_url(url, socket_timeout=None)
        self.position = Position()
        self.rooms = SessionRooms(
            self.client,
            keys,
            self.connections,
            self.position,
            session_time=session_time,
            window_time=300,
        )
        self.offsets = itertools.count(1)

    def changed(self, session: str, room: str, *, joins: bool) -> None:
        """The next entry of the stream has it."""
        offset = (next(self.offsets), 0)
        self.rooms.changed(session, room, joins=joins, offset=offset)

    async def rooms_of(self, session: str, user: UserId | None = None) -> list[str] | None:
        recalled = await self.rooms.of(session, user)
        return None if recalled is None else sorted(recalled.history.rooms)

    def connect(self, session: str, *rooms: str) -> Connection:
        connection = new_connection(self.connections, RecordingTransport())
        connection.session = Session(session, (0, 0))
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
                found = await self.rooms_of(session)
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
            here.changed("s", room, joins=True)
        here.changed("other", "cellar", joins=True)
        here.changed("s", "hall", joins=False)
        await there.until("s", "a b", "küche")
        await there.until("other", "cellar")
        assert await there.rooms_of("nobody") == []


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
            kept.changed(f"s{number}", f"room {number}", joins=True)
        await kept.until(f"s{count - 1}", f"room {count - 1}")
        counting = CountingClient(kept.client)
        kept.rooms._client = cast("redis.asyncio.Redis", counting)
        answers = await asyncio.gather(*(kept.rooms_of(f"s{number}") for number in range(count)))
        assert answers == [[f"room {number}"] for number in range(count)]
        assert counting.pipelines == 3
        assert await kept.rooms_of("s1") == ["room 1"]


async def test_those_who_ask_while_an_answer_is_waited_for_share_the_next_round_trip(
    own_redis: RedisServer, keys: Keys
) -> None:
    async with keeping(own_redis.url, keys) as kept:
        kept.changed("s1", "hall", joins=True)
        await kept.until("s1", "hall")
        counting = CountingClient(kept.client)
        kept.rooms._client = cast("redis.asyncio.Redis", counting)
        own_redis.process.send(signal.SIGSTOP)
        try:
            asking = []
            for number in range(ASKED_AT_ONCE):
                asking.append(asyncio.create_task(kept.rooms_of(f"s{number}")))
                # The first is asked for at once, each of the others in another turn of the loop.
                await asyncio.sleep(0)
            assert counting.pipelines == 1
        finally:
            own_redis.process.send(signal.SIGCONT)
        answers = await asyncio.gather(*asking)
        assert answers == [[], ["hall"], *([] for _ in range(2, ASKED_AT_ONCE))]
        assert counting.pipelines == 2


async def test_one_who_waits_no_more_takes_nothing_from_the_others(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as kept:
        kept.changed("s", "hall", joins=True)
        await kept.until("s", "hall")
        leaves = asyncio.create_task(kept.rooms_of("other"))
        stays = asyncio.create_task(kept.rooms_of("s"))
        asyncio.get_running_loop().call_soon(leaves.cancel)
        assert await stays == ["hall"]
        assert leaves.cancelled()


async def test_changes_are_written_in_order_however_many_they_are(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as kept:
        for number in range(PIPELINE_SIZE * 2 + 1):
            kept.changed("s", "hall", joins=number % 2 == 0)
        kept.changed("s", "last", joins=True)
        await kept.until("s", "hall", "last")


async def test_what_a_session_leaves_behind_ends_by_itself(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys, session_time=100) as kept:
        kept.changed("s", "hall", joins=True)
        await kept.until("s", "hall")
        left = await kept.client.pttl(keys.session_rooms("s"))
        assert 440_000 < left <= 500_000


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
                kept.changed("other", "cellar", joins=True)
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


# Whether sessions live


async def alive(kept: Kept, session: str) -> bool:
    recalled = await kept.rooms.of(session, None)
    assert recalled is not None
    return recalled.alive


async def test_a_session_lives_from_when_its_client_came(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys, session_time=100) as here, keeping(redis_url, keys) as away:
        assert not await alive(away, "s")
        here.connect("s")
        here.rooms.opened("s", (7, 1))
        # What has just been noted here is known here.
        assert await alive(here, "s")
        assert await alive(away, "s")
        assert 190_000 < await here.client.pttl(keys.session("s")) <= 200_000


async def test_a_session_is_untold_until_redis_knows_of_it(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys) as kept:
        assert kept.rooms.untold("s") is None
        kept.rooms.opened("s", (7, 1))
        assert kept.rooms.untold("s") == (keys.session("s"), "7-1")
        assert await alive(kept, "s")
        assert kept.rooms.untold("s") is None
        kept.rooms.closed(kept.connect("s"))
        assert kept.rooms.untold("s") is None


async def test_a_session_outlives_its_client_by_its_time(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys, session_time=100) as kept:
        connection = kept.connect("s", "hall")
        kept.rooms.opened("s", (7, 1))
        kept.rooms.closed(connection)
        kept.connections.remove(connection)
        assert await alive(kept, "s")
        assert 90_000 < await kept.client.pttl(keys.session("s")) <= 100_000


async def test_one_whose_client_stays_is_renewed_and_ends_after_it_went(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys, session_time=0.2) as kept:
        connection = kept.connect("s", "hall")
        kept.rooms.opened("s", (7, 1))
        until = asyncio.get_running_loop().time() + 1
        while asyncio.get_running_loop().time() < until:
            assert await alive(kept, "s")
            await asyncio.sleep(0.02)
        kept.rooms.closed(connection)
        kept.connections.remove(connection)
        async with asyncio.timeout(DEADLINE):
            while await alive(kept, "s"):
                await kept.client.ping()
        # That it was in rooms is still known.
        assert await kept.rooms_of("s") == ["hall"]


async def test_the_end_of_a_connection_whose_session_has_gone_on_is_none(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys, session_time=100) as kept:
        old, new = kept.connect("s"), kept.connect("t")
        kept.rooms.opened("s", (7, 1))
        kept.connections.take_over(new, "s", (0, 0))
        kept.rooms.closed(old)
        kept.connections.remove(old)
        assert await alive(kept, "s")
        assert 190_000 < await kept.client.pttl(keys.session("s")) <= 200_000


async def test_a_room_that_was_left_elsewhere_comes_not_back_by_an_older_join(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as fast, keeping(redis_url, keys) as slow:
        fast.rooms.changed("s", "hall", joins=True, offset=(30, 0))
        await fast.until("s", "hall")
        # A push server that is behind: what it says is older than what Redis has.
        slow.rooms.changed("s", "hall", joins=False, offset=(20, 0))
        slow.rooms.changed("s", "hall", joins=True, offset=(10, 0))
        slow.rooms.changed("s", "garden", joins=True, offset=(21, 0))
        await slow.until("s", "garden", "hall")
        fast.rooms.changed("s", "hall", joins=False, offset=(31, 0))
        await fast.until("s", "garden")


async def test_a_leave_of_its_user_counts_unless_it_has_joined_again(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as kept:
        kept.rooms.changed("s", "hall", joins=True, offset=(9, 3))
        kept.rooms.changed("s", "garden", joins=True, offset=(11, 0))
        for room in ("hall", "garden"):
            await kept.client.set(keys.left_room("ann", room), "10-1")
        assert await kept.rooms_of("s", UserId("bob")) == ["garden", "hall"]
        assert await kept.rooms_of("s", UserId("ann")) == ["garden"]
        # It is in force also when its own key has expired.
        await kept.client.delete(keys.left_room("ann", "hall"))
        await kept.until("s", "garden")


async def history(kept: Kept, session: str = "s") -> RoomHistory:
    recalled = await kept.rooms.of(session, None)
    assert recalled is not None
    return recalled.history


async def test_it_is_known_in_which_rooms_a_session_was(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys) as kept:
        await kept.client.xadd(keys.broadcast, {"e": b"x"}, id="30-0")
        kept.rooms.opened("s", (2, 5))
        for number, sign in enumerate("+--+++-", start=10):
            kept.rooms.changed("s", "hall", joins=sign == "+", offset=(number, 0))
        kept.rooms.changed("s", "never", joins=False, offset=(20, 0))
        kept.rooms.changed("s", "garden", joins=True, offset=(21, 0))
        found = await history(kept)
        assert found.since == (2, 5)
        assert [number for number in range(9, 20) if found.rooms_at((number, 0))] == [
            10, 13, 14, 15,
        ]  # fmt: skip
        assert found.rooms_at((20, 9)) == set()
        assert found.rooms == {"garden"}
        assert found.tells((0, 0))
        assert await kept.client.hget(keys.session_left("s"), "never") == b"-20-0"


async def test_a_beginning_beyond_the_end_is_none(redis_url: str, keys: Keys) -> None:
    """It is an offset of another stream."""
    async with keeping(redis_url, keys) as kept:
        await kept.client.xadd(keys.broadcast, {"e": b"x"}, id="30-0")
        await kept.client.set(keys.session("s"), "30-1")
        assert (await history(kept)).since == (0, 0)


async def test_it_is_known_since_when_it_is_known(redis_url: str, keys: Keys) -> None:
    """What is kept of rooms that were left is bounded."""
    async with keeping(redis_url, keys) as kept:
        for number in range(MOST_LEFT + 1):
            kept.rooms.changed("s", f"room {number}", joins=True, offset=(number, 1))
        for number in range(MOST_LEFT + 1):
            assert (await history(kept)).tells((0, 0))
            kept.rooms.changed("s", f"room {number}", joins=False, offset=(number, 2))
        found = await history(kept)
        assert await kept.client.hlen(keys.session_left("s")) == 1
        assert not found.tells((MOST_LEFT, 1))
        assert found.tells((MOST_LEFT, 2))
        assert found.rooms == set()


async def test_leaves_of_rooms_in_which_a_session_never_was_hide_nothing(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as kept:
        kept.rooms.changed("s", "hall", joins=True, offset=(1, 0))
        kept.rooms.changed("s", "hall", joins=False, offset=(2, 0))
        for number in range(3 * MOST_LEFT):
            kept.rooms.changed("s", f"room {number}", joins=False, offset=(3, number))
        found = await history(kept)
        assert found.tells((0, 0))
        assert found.rooms_at((1, 5)) == {"hall"}
        assert await kept.client.hlen(keys.session_left("s")) <= MOST_LEFT + 1


async def test_of_a_room_so_many_changes_are_known(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys) as kept:
        for number in range(1, 2 * MOST_CHANGES + 1):
            kept.rooms.changed("s", "hall", joins=number % 2 == 1, offset=(number, 0))
        found = await history(kept)
        for number in range(1, 2 * MOST_CHANGES + 1):
            assert found.tells((number, 0)) is (number >= MOST_CHANGES)
            if found.tells((number, 0)):
                assert found.rooms_at((number, 0)) == ({"hall"} if number % 2 else set())


@pytest.mark.parametrize("seed", range(20))
async def test_changes_are_known_in_whatever_order_they_are_written(
    redis_url: str, keys: Keys, seed: int
) -> None:
    """What workers write comes at once, and what push servers see comes a little later."""
    chance = random.Random(seed)
    async with keeping(redis_url, keys) as kept:
        changes = [((number, 0), chance.random() < 0.5) for number in range(1, MOST_CHANGES + 1)]
        at_once = [each for each in changes if chance.random() < 0.5]
        for offset, joins in [*at_once, *changes]:
            kept.rooms.changed("s", "hall", joins=joins, offset=offset)
        found = await history(kept)
        for offset, joins in changes:
            if found.tells(offset):
                assert (found.rooms_at(offset) == {"hall"}) is joins
        assert (found.rooms == {"hall"}) is changes[-1][1]


async def test_when_offsets_begin_anew_those_of_before_are_forgotten(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as kept:
        connection = kept.connect("s", "hall")
        kept.rooms.changed("s", "hall", joins=True, offset=(900, 0))
        kept.rooms.changed("s", "garden", joins=True, offset=(901, 0))
        await kept.until("s", "garden", "hall")
        kept.position.move((5, 0))
        connection.session = Session("s", (0, 0))
        kept.rooms.renew(anew=True)
        await kept.until("s", "hall")
        found = await history(kept)
        assert found.rooms_at((5, 0)) == {"hall"}
        assert not found.tells((4, 0))


async def test_a_leave_behind_a_renewal_is_in_force(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys) as kept:
        kept.connect("s", "hall")
        kept.position.move((5, 0))
        kept.rooms.renew()
        kept.rooms.changed("s", "hall", joins=False, offset=(6, 0))
        # What is written later was noted earlier.
        kept.position.move((9, 0))
        assert await kept.rooms_of("s") == []


async def test_the_end_of_the_stream_is_told_also_where_it_was_cut(
    redis_url: str, keys: Keys
) -> None:
    async with keeping(redis_url, keys) as kept:
        recalled = await kept.rooms.of("s", None)
        assert recalled is not None
        assert (recalled.last, recalled.generated) == ((0, 0), (0, 0))
        for number in (1, 2):
            await kept.client.xadd(keys.broadcast, {"e": b"x"}, id=f"{number}-7")
        await kept.client.xdel(keys.broadcast, "2-7")
        recalled = await kept.rooms.of("s", None)
        assert recalled is not None
        assert (recalled.last, recalled.generated) == ((1, 7), (2, 7))


async def test_what_waits_at_the_end_is_written(redis_url: str, keys: Keys) -> None:
    async with keeping(redis_url, keys) as reading:
        kept = Kept(redis_url, keys, LONG)
        kept.rooms.opened("s", (7, 1))
        kept.changed("s", "hall", joins=True)
        await kept.rooms.close()
        await kept.client.aclose()
        assert await alive(reading, "s")
        assert await reading.rooms_of("s") == ["hall"]


async def test_a_redis_that_is_full_is_told_of_sessions_all_the_same(
    own_redis: RedisServer, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients come back to another push server, whatever has become of this one."""
    async with keeping(own_redis.url, keys) as kept, keeping(own_redis.url, keys) as other:
        kept.rooms.opened("before", (7, 1))
        kept.changed("before", "hall", joins=True)
        assert await alive(kept, "before")
        await kept.client.config_set("maxmemory", "1")
        kept.rooms.opened("meanwhile", (8, 1))
        kept.changed("meanwhile", "garden", joins=True)
        kept.changed("before", "hall", joins=False)
        assert await alive(kept, "before")
        assert await alive(kept, "meanwhile")
        assert await kept.rooms_of("meanwhile") == ["garden"]
        assert await kept.rooms_of("before") == []
        await other.until("meanwhile", "garden")
        await other.until("before")
        assert await alive(other, "before")
        assert await alive(other, "meanwhile")
        kept.connect("renewed", "terrace")
        kept.rooms.renew()
        await other.until("renewed", "terrace")
        assert await alive(other, "renewed")
    assert not caplog.messages


async def test_while_redis_is_away_nothing_is_known_and_nothing_forgotten(
    own_redis: RedisServer,
    keys: Keys,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_rooms, "PAUSE", 0.02)
    caplog.set_level(logging.WARNING)
    async with keeping(own_redis.url, keys) as kept:
        kept.changed("s", "hall", joins=True)
        await kept.until("s", "hall")
        await asyncio.to_thread(own_redis.kill)
        kept.changed("s", "hall", joins=False)
        kept.changed("s", "kitchen", joins=True)
        await eventually_async(lambda: "wait for Redis" in caplog.text, what="the warning")
        assert await kept.rooms_of("s") is None
        await asyncio.to_thread(own_redis.start)
        await kept.until("s", "kitchen")

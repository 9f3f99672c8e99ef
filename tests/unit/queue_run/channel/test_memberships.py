"""Changes of rooms, written with what Redis keeps of sessions."""

import pytest
import redis
from redis.exceptions import OutOfMemoryError

from queue_run.channel.memberships import Noted, also_when_full, noted
from queue_run.contracts.envelopes import Membership
from queue_run.contracts.ids import ConnectionId, UserId
from queue_run.contracts.keys import Keys
from queue_run.storage.links import Command
from tests.processes import RedisServer

ANN, BOB = UserId("ann"), UserId("bob")


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


def note(change: Membership, keys: Keys) -> Noted:
    made = noted(change, keys, session_time=60, window_time=300, max_rooms=3)
    assert made is not None
    return made


def of_session(room: str, *, joins: bool) -> Membership:
    return Membership(room=room, joins=joins, connection=ConnectionId("s1-1"), session="s")


def write(client: redis.Redis, keys: Keys, change: Membership) -> str:
    """The offset of the entry."""
    append: Command = ["XADD", keys.broadcast, "MAXLEN", "~", 100, "*", "e", b"entry"]
    offset = client.execute_command(  # type: ignore[no-untyped-call]
        *note(change, keys).command(append)
    )
    assert isinstance(offset, bytes)
    return offset.decode()


def test_a_session_that_lives_joins_and_leaves(redis_url: str, keys: Keys) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(keys.session("s"), "")
        offset = write(client, keys, of_session("a b", joins=True))
        assert client.hgetall(keys.session_rooms("s")) == {b"a b": f"+{offset}".encode()}
        assert 400_000 < client.pttl(keys.session_rooms("s")) <= 420_000
        left = write(client, keys, of_session("a b", joins=False))
        assert client.hgetall(keys.session_rooms("s")) == {}
        # When it was there is still known.
        assert client.hgetall(keys.session_left("s")) == {b"a b": f"+{offset} -{left}".encode()}
        assert 400_000 < client.pttl(keys.session_left("s")) <= 420_000
        assert client.xlen(keys.broadcast) == 2


def test_of_a_session_that_is_over_nothing_is_kept(redis_url: str, keys: Keys) -> None:
    with redis.Redis.from_url(redis_url) as client:
        write(client, keys, of_session("hall", joins=True))
        write(client, keys, of_session("hall", joins=False))
        assert not client.exists(keys.session_rooms("s"), keys.session_left("s"))
        assert client.xlen(keys.broadcast) == 2


def test_a_leave_of_users_says_when_it_was_until_they_join_again(
    redis_url: str, keys: Keys
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        users = [ANN, BOB]
        offset = write(client, keys, Membership(room="hall", joins=False, users=users))
        for user in users:
            assert client.get(keys.left_room(user, "hall")) == offset.encode()
            assert 400_000 < client.pttl(keys.left_room(user, "hall")) <= 420_000
        write(client, keys, Membership(room="hall", joins=True, users=[ANN]))
        assert client.get(keys.left_room(ANN, "hall")) is None
        assert client.get(keys.left_room(BOB, "hall")) == offset.encode()


def test_of_a_connection_without_a_session_nothing_is_noted(keys: Keys) -> None:
    change = Membership(room="hall", joins=True, connection=ConnectionId("s1-1"))
    assert noted(change, keys, session_time=60, window_time=300, max_rooms=3) is None


def test_names_with_colons_are_told_apart(keys: Keys) -> None:
    assert keys.left_room("a:b", "c") != keys.left_room("a", "b:c")


def test_a_session_has_no_more_rooms_than_it_may_have(redis_url: str, keys: Keys) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(keys.session("s"), "")
        for number in range(9):
            write(client, keys, of_session(f"room {number}", joins=True))
        assert len(client.hgetall(keys.session_rooms("s"))) == 3
        assert client.xlen(keys.broadcast) == 9
        # One of them may be joined anew.
        offset = write(client, keys, of_session("room 1", joins=True))
        held = client.hget(keys.session_rooms("s"), "room 1")
        assert isinstance(held, bytes)
        assert held.decode().endswith(f" +{offset}")
        # One that was left makes room, though it is remembered.
        write(client, keys, of_session("room 1", joins=False))
        write(client, keys, of_session("room 8", joins=True))
        assert client.hkeys(keys.session_rooms("s")) == [b"room 0", b"room 2", b"room 8"]


def test_an_entry_may_be_written_in_a_full_redis_too(own_redis: RedisServer) -> None:
    append = ("XADD", "stream", "MAXLEN", "~", 10, "*", "e", "data")
    with own_redis.client() as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            client.execute_command(*append)
        offset = client.execute_command(*also_when_full(10).command(append))
        assert client.xrange("stream") == [(offset, {"e": "data"})]

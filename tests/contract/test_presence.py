"""Who is online: what the scripts of push servers make of it, on every Redis they run on."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis

from queue_run.contracts.ids import ServerId, UserId
from queue_run.contracts.keys import Keys
from queue_run.presence import AT_ONCE, DONE, MORE, UNKNOWN, Presence, ScriptCall, Scripts
from queue_run.settings import Settings
from queue_run.storage.scripts import Store
from tests.waiting import DEADLINE, eventually

ANN, BOB, CARL = UserId("ann"), UserId("bob"), UserId("carl")
#: Seconds that no test lasts.
LONG = 600.0
#: Seconds that a test can wait for; the shortest expiry is two seconds.
SHORT = 0.05


class World:
    """The push servers of one application, as Redis knows them."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url, self._namespace = url, namespace
        self.keys = Keys(namespace)
        self.client = redis.Redis.from_url(url, decode_responses=True)
        self.store = Store(self.settings(), patience=DEADLINE)
        self.presence = Presence(self.store)

    def settings(self, *, delay: float = SHORT, heartbeat: float = LONG) -> Settings:
        return Settings(
            redis_url=self._url,
            namespace=self._namespace,
            offline_delay=delay,
            heartbeat_interval=heartbeat,
        )

    def server(self, name: str, **times: float) -> "Server":
        server = Server(self, ServerId(name), self.settings(**times))
        server.register()
        return server

    @property
    def events(self) -> list[tuple[str, bool]]:
        """What the application is to be told, in order."""
        entries = cast("list[Any]", self.client.xrange(self.keys.presence))
        return [(fields["user"], fields["online"] == "1") for _, fields in entries]

    @property
    def online(self) -> set[str]:
        return set(cast("dict[str, str]", self.client.hgetall(self.keys.online)))

    @property
    def servers(self) -> set[str]:
        return set(cast("list[str]", self.client.zrange(self.keys.push_servers, 0, -1)))

    def lose_heartbeats(self, server: str) -> None:
        """As if a server had been silent since long ago."""
        self.client.zadd(self.keys.push_servers, {server: 1})

    def close(self) -> None:
        self.store.close()
        self.client.close()


class Server:
    def __init__(self, world: World, name: ServerId, settings: Settings) -> None:
        self._store = world.store
        self._scripts = Scripts(settings, name)
        self.watched = True

    def register(self, epoch: str = "e1") -> Any:
        return self._run(self._scripts.register(epoch))

    def arrive(self, *users: str, silent: bool = False) -> int:
        ids = [UserId(user) for user in users]
        return int(self._run(self._scripts.arrive(ids, watched=self.watched, silent=silent)))

    def depart(self, *users: str) -> int:
        ids = [UserId(user) for user in users]
        return int(self._run(self._scripts.depart(ids, watched=self.watched)))

    def sweep(self) -> int:
        return int(self._run(self._scripts.sweep(watched=self.watched)))

    def retire(self) -> int:
        return int(self._run(self._scripts.retire(watched=self.watched)))

    def _run(self, call: ScriptCall) -> Any:
        return self._store.call(call.script, call.keys, call.arguments)


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[World]:
    world = World(redis_url, namespace)
    yield world
    world.close()


def swept(server: Server, world: World, user: str) -> None:
    """Sweep until it is told that the user is gone."""

    def told() -> bool:
        server.sweep()
        return (user, False) in world.events

    eventually(told, what=f"the departure of {user}")


# Coming and going


def test_a_user_who_comes_is_online_and_told_of(world: World) -> None:
    server = world.server("s1")
    assert server.arrive("ann", "bob") == DONE
    assert world.online == {"ann", "bob"}
    assert world.events == [("ann", True), ("bob", True)]


def test_a_user_who_goes_is_offline_at_once_and_told_of_later(world: World) -> None:
    server = world.server("s1", delay=LONG)
    server.arrive("ann")
    assert server.depart("ann") == DONE
    assert world.online == set()
    server.sweep()
    assert world.events == [("ann", True)]
    hasty = world.server("s1", delay=SHORT)
    hasty.arrive("bob")
    hasty.depart("bob")
    swept(hasty, world, "bob")
    assert world.events == [("ann", True), ("bob", True), ("bob", False)]
    assert hasty.sweep() == DONE
    assert len(world.events) == 3


def test_a_reload_is_no_absence(world: World) -> None:
    server = world.server("s1", delay=LONG)
    server.arrive("ann")
    server.depart("ann")
    server.arrive("ann")
    assert world.online == {"ann"}
    assert world.events == [("ann", True)]
    assert world.client.zcard(world.keys.leaving) == 0


def test_who_comes_back_after_the_delay_is_told_of_again(world: World) -> None:
    server = world.server("s1")
    server.arrive("ann")
    server.depart("ann")
    swept(server, world, "ann")
    server.arrive("ann")
    assert world.events == [("ann", True), ("ann", False), ("ann", True)]


def test_a_user_of_two_servers_is_one_user(world: World) -> None:
    one, two = world.server("s1"), world.server("s2")
    one.arrive("ann")
    two.arrive("ann")
    one.depart("ann")
    assert world.online == {"ann"}
    assert one.sweep() == DONE
    two.depart("ann")
    assert world.online == set()
    swept(one, world, "ann")
    two.sweep()
    assert world.events == [("ann", True), ("ann", False)]


def test_every_script_may_be_sent_twice(world: World) -> None:
    one, two = world.server("s1"), world.server("s2")
    for _ in range(2):
        one.arrive("ann", "bob")
        two.arrive("ann")
    for _ in range(2):
        one.depart("ann", "bob")
    assert world.online == {"ann"}
    for _ in range(2):
        two.depart("ann")
        two.retire()
    assert world.online == set()
    swept(one, world, "ann")
    swept(one, world, "bob")
    assert sorted(world.events) == sorted(
        [("ann", True), ("bob", True), ("ann", False), ("bob", False)]
    )


def test_without_anybody_to_tell_nothing_is_kept(world: World) -> None:
    server = world.server("s1")
    server.watched = False
    server.arrive("ann")
    assert world.online == {"ann"}
    server.depart("ann")
    server.sweep()
    assert world.online == set()
    assert world.client.exists(world.keys.presence, world.keys.leaving) == 0


def test_who_was_told_of_before_is_not_told_of_again(world: World) -> None:
    server = world.server("s1")
    server.arrive("ann", silent=True)
    assert world.online == {"ann"}
    assert world.events == []
    server.depart("ann")
    swept(server, world, "ann")


# Servers


def test_a_server_that_redis_does_not_know_changes_nothing(world: World) -> None:
    stranger = Server(world, ServerId("s9"), world.settings())
    assert [stranger.arrive("ann"), stranger.depart("ann"), stranger.sweep()] == [UNKNOWN] * 3
    assert stranger.retire() == DONE
    assert world.online == set()
    assert world.servers == set()


def test_a_server_learns_what_redis_knew_of_it(world: World) -> None:
    server = Server(world, ServerId("s1"), world.settings())
    assert server.register("e1") == [None, b"e1"]
    heartbeat, epoch = server.register("e2")
    assert float(heartbeat) > 0
    assert epoch == b"e1"


def test_a_server_that_ends_takes_its_users_with_it(world: World) -> None:
    one, two = world.server("s1"), world.server("s2")
    one.arrive("ann", "bob")
    two.arrive("bob")
    assert one.retire() == DONE
    assert world.online == {"bob"}
    assert world.servers == {"s2"}
    swept(two, world, "ann")
    assert ("bob", False) not in world.events


def test_many_users_end_in_parts(world: World) -> None:
    one, two = world.server("s1"), world.server("s2", delay=SHORT)
    users = [f"u{number}" for number in range(AT_ONCE + 1)]
    one.arrive(*users)
    assert one.retire() == MORE
    assert len(world.online) == 1
    # What it does not get to do itself, the others do, however recent its heartbeat.
    eventually(lambda: two.sweep() == DONE and not world.online, what="the others to end it")
    assert world.servers == {"s2"}

    def all_told() -> bool:
        two.sweep()
        return len(world.events) == 2 * len(users)

    eventually(all_told, what="all departures")
    assert sorted(user for user, online in world.events if not online) == sorted(users)


def test_a_server_that_is_silent_for_too_long_is_dead_and_one_of_the_others_says_so(
    world: World,
) -> None:
    dead, one, two = (world.server(name, heartbeat=0.1) for name in ("s1", "s2", "s3"))
    dead.arrive("ann", "bob")
    one.arrive("bob")

    def removed() -> bool:
        one.sweep()
        two.sweep()
        return "s1" not in world.servers

    eventually(removed, what="the end of the dead server")
    assert world.servers == {"s2", "s3"}
    assert world.online == {"bob"}
    swept(two, world, "ann")
    one.sweep()
    assert world.events == [("ann", True), ("bob", True), ("ann", False)]


def test_servers_that_were_silent_while_nobody_swept_get_their_time(world: World) -> None:
    """After an outage of Redis all heartbeats are old, and whoever is first must not judge."""
    one, two = world.server("s1"), world.server("s2")
    two.arrive("ann")
    one.sweep()
    world.client.hset(world.keys.presence_sweeps, mapping={"last": 1, "since": 1})
    world.lose_heartbeats("s2")
    one.sweep()
    assert world.online == {"ann"}
    assert two.sweep() == DONE


def test_regular_sweeps_make_a_silent_server_dead_at_once(world: World) -> None:
    one, two = world.server("s1"), world.server("s2")
    two.arrive("ann")
    one.sweep()
    world.client.hset(world.keys.presence_sweeps, "since", 1)
    world.lose_heartbeats("s2")
    one.sweep()
    assert world.online == set()
    # It lives after all: it registers anew, and nobody takes its users then.
    assert two.arrive("bob") == UNKNOWN
    assert two.register() == [None, b"e1"]
    assert two.arrive("ann") == DONE
    one.sweep()
    assert world.online == {"ann"}
    assert world.events == [("ann", True)]


def test_a_server_whose_users_are_being_taken_offline_has_to_register(world: World) -> None:
    one, two = world.server("s1"), world.server("s2")
    one.arrive(*(f"u{number}" for number in range(AT_ONCE + 1)))
    one.retire()
    assert one.arrive("ann") == UNKNOWN
    assert one.register() == [b"0", b"e1"]
    two.sweep()
    assert len(world.online) == 1
    assert one.arrive("ann") == DONE


# Questions


def test_who_is_online_is_told_in_the_order_of_the_question(world: World) -> None:
    server = world.server("s1")
    server.arrive("ann", "carl")
    assert world.presence.online([CARL, BOB, ANN]) == [CARL, ANN]
    assert world.presence.online([]) == []
    assert (world.presence.is_online(ANN), world.presence.is_online(BOB)) == (True, False)


def test_a_question_about_very_many_users_is_asked_in_parts(world: World) -> None:
    server = world.server("s1")
    users = [UserId(f"u{number}") for number in range(2 * AT_ONCE + 7)]
    for start in range(0, len(users), AT_ONCE):
        server.arrive(*users[start : start + AT_ONCE])
    assert world.presence.online([*users, ANN]) == users

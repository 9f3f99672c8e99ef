"""Presence: who comes and goes is told once, whatever happens to the processes."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import cast

import pytest
from websockets.exceptions import InvalidStatus

from queue_run import socket
from queue_run.contracts.ids import UserId
from queue_run.contracts.keys import Keys
from queue_run.process import runtime
from queue_run.settings import Settings
from tests.clients import connected
from tests.conftest import NewStack, WriteApp
from tests.processes import RedisServer, Stack
from tests.waiting import DEADLINE, eventually_async

#: Seconds without connections after which a user is gone, in these tests; and where she is to come
#: back before that, though the machine stalls.
DELAY, LONG_DELAY = 0.5, 8.0

MIDDLEWARE = """
import os

import redis

client = redis.Redis.from_url(os.environ["REDIS_URL"])
TOLD = os.environ["QUEUE_RUN_NAMESPACE"] + ":told"


def on_authenticate(request):
    return {"id": request.query["user"]}


async def on_online(user_id):
    client.rpush(TOLD, f"+{user_id}")


def on_offline(user_id):
    client.rpush(TOLD, f"-{user_id}")
"""

INDEX = """
from queue_run import queues, socket


async def handler(data):
    if data["ask"] == "is_online":
        return await socket.is_online(data["user"])
    if data["ask"] == "online":
        return await socket.online(data["users"])
    queues.get("tell").push(data["users"])
"""

TELL = """
from queue_run import socket


def handler(users):
    receipt = socket.to(users).send({"event": "news"}).value
    if receipt.online < len(users):
        socket.to("sender").send({"mailed": len(users) - receipt.online})
"""

FILES = {
    "sockets/_middleware.py": MIDDLEWARE,
    "sockets/index.py": INDEX,
    "queues/tell.py": TELL,
}


class World:
    """A stack, and what its application was told."""

    def __init__(self, redis: RedisServer, stack: Stack) -> None:
        self.redis = redis
        self.stack = stack
        self._client = redis.client()
        self._key = f"{stack.namespace}:told"

    def url(self, user: str, server: int = 0) -> str:
        return self.stack.ws(f"/?user={user}", server=server)

    def told(self, user: str) -> str:
        """`+-+` for a user who came, went and came."""
        return "".join(each[0] for each in self.all_told() if each[1:] == user)

    def all_told(self) -> list[str]:
        return cast("list[str]", self._client.lrange(self._key, 0, -1))

    async def until_told(self, user: str, signs: str) -> None:
        await eventually_async(
            lambda: len(self.told(user)) >= len(signs), what=f"{signs} of {user}"
        )
        assert self.told(user) == signs

    async def until_deleted(self) -> None:
        """Return when a worker that dies now would leave nothing to tell again."""
        key = Keys(self.stack.namespace).presence
        await eventually_async(lambda: self._client.xlen(key) == 0, what="an empty stream")

    async def mark(self, *, server: int = 0) -> None:
        """Return when a user who comes after everything before has been told of."""
        name = f"mark{random.getrandbits(32)}"
        async with asyncio.timeout(DEADLINE):
            # A Redis that was emptied knows of no worker, until one tells it again.
            while not await self._let_in(name, server):
                pass

    async def _let_in(self, name: str, server: int) -> bool:
        try:
            async with connected(self.url(name, server)):
                await self.until_told(name, "+")
                return True
        except InvalidStatus:
            return False

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def world(
    own_redis: RedisServer,
    write_app: WriteApp,
    new_stack: NewStack,
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    """Two push servers, two workers."""
    delay = getattr(request, "param", DELAY)
    stack = new_stack(own_redis, write_app(FILES), QUEUE_RUN_OFFLINE_DELAY=str(delay))
    for _ in range(2):
        stack.push_server()
        stack.worker("-P", "solo")
    stack.wait_until_ready()
    world = World(own_redis, stack)
    yield world
    world.close()


@pytest.fixture
def here(world: World, no_runtime_left: None) -> runtime.Runtime:
    """This process, as a script of the application."""
    return runtime.configure(
        Settings(
            redis_url=world.redis.url, namespace=world.stack.namespace, publish_timeout=DEADLINE
        )
    )


@pytest.fixture
def no_runtime_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runtime, "_current", None)
    yield
    if runtime._current is not None:
        runtime._current.close()


async def test_a_user_is_told_of_who_comes_with_the_first_connection_and_goes_with_the_last(
    world: World,
) -> None:
    async with connected(world.url("ann")):
        async with connected(world.url("ann", 1)):
            await world.until_told("ann", "+")
        await world.mark(server=1)
    await world.until_told("ann", "+-")


@pytest.mark.parametrize("world", [LONG_DELAY], ids=["long delay"], indirect=True)
async def test_a_reload_is_silent(world: World) -> None:
    async with connected(world.url("ann")):
        await world.until_told("ann", "+")
    for _ in range(5):
        async with connected(world.url("ann", 1)):
            pass
        async with connected(world.url("ann")):
            pass
    async with connected(world.url("ann", 1)):
        # Longer than the delay that began with the last departure.
        async with connected(world.url("bob")):
            # A visit that is shorter than a moment may go untold.
            await world.until_told("bob", "+")
        await world.until_told("bob", "+-")
        assert world.told("ann") == "+"
    await world.until_told("ann", "+-")


async def test_who_is_online_is_answered_in_both_worlds(
    world: World, here: runtime.Runtime
) -> None:
    async with (
        connected(world.url("ann")) as ann,
        connected(world.url("bob", 1)),
    ):
        await eventually_async(
            lambda: _online(["ann", "bob"]) == ["ann", "bob"], what="both to be online"
        )
        assert await ann.ask({"ask": "is_online", "user": "bob"}) is True
        assert await ann.ask({"ask": "is_online", "user": "carl"}) is False
        asked = {"ask": "online", "users": ["carl", "bob", "ann"]}
        assert await ann.ask(asked) == ["bob", "ann"]
        assert await socket.is_online("bob")
        receipt = await socket.to(["carl", "bob", "ann"]).send("hello")
        assert receipt.online == 2
        assert await ann.receive() == "hello"
    await eventually_async(lambda: not _online(["ann", "bob"]), what="both to be gone")
    assert (await socket.to(["ann"]).send("hello")).online == 0
    assert (await socket.room("lobby").send("hello")).online is None


def _online(users: list[str]) -> list[str]:
    return list(runtime.current().presence.online([UserId(user) for user in users]))


async def test_a_job_falls_back_to_mail_for_users_without_a_connection(world: World) -> None:
    async with (
        connected(world.url("sender")) as sender,
        connected(world.url("ann", 1)) as ann,
    ):
        await world.until_told("ann", "+")
        await sender.send({"ask": "tell", "users": ["ann", "bob"]})
        assert await ann.receive() == {"event": "news"}
        assert await sender.receive() == {"mailed": 1}


async def flap(world: World, user: str, until: float, rng: random.Random) -> None:
    """Come and go until then, and stay or not."""
    while time.monotonic() < until:
        async with connected(world.url(user, rng.randrange(2))):
            await asyncio.sleep(rng.uniform(0, 0.3))
        await asyncio.sleep(rng.choice([0.0, 0.1, 2 * DELAY]))


async def assert_settled(world: World, online: set[str], users: list[str]) -> None:
    """Everybody's coming and going pairs up, and who is online is who is connected."""

    def settled() -> bool:
        signs = {user: world.told(user) for user in users}
        return all((signs[user][-1:] == "+") == (user in online) for user in users)

    await eventually_async(settled, what="the last of what there is to tell")
    await world.mark()
    for user in users:
        told = world.told(user)
        expected = ("+-" * len(told))[: len(told)]
        assert told == expected, (user, told)
        assert told.endswith("+") == (user in online), (user, told)
    assert set(_online(users)) == online


async def test_coming_and_going_pairs_up_while_users_flap(
    world: World, here: runtime.Runtime
) -> None:
    users = [f"u{number}" for number in range(40)]
    until = time.monotonic() + 5
    await asyncio.gather(*(flap(world, user, until, random.Random(user)) for user in users))
    async with AsyncExitStack() as stack:
        stay = set(users[::2])
        for user in sorted(stay):
            await stack.enter_async_context(connected(world.url(user, len(user) % 2)))
        await assert_settled(world, stay, users)
    await assert_settled(world, set(), users)
    assert len(world.all_told()) > 2 * len(users)


async def test_a_killed_push_server_takes_its_users_offline_once(
    world: World, here: runtime.Runtime
) -> None:
    users = [f"u{number}" for number in range(20)]
    async with AsyncExitStack() as stack:
        for number, user in enumerate(users):
            await stack.enter_async_context(connected(world.url(user, number % 2)))
        # On both.
        await stack.enter_async_context(connected(world.url("u1", 0)))
        for user in users:
            await world.until_told(user, "+")
        killed = time.monotonic()
        world.stack.push_servers[1].send(signal.SIGKILL)
        left = {*users[::2], "u1"}
        await assert_settled(world, left, users)
        took = time.monotonic() - killed
        print(f"told {took:.1f} s after the kill")  # noqa: T201
    await assert_settled(world, set(), users)
    for user in users:
        assert world.told(user) == "+-"


async def test_a_restarted_push_server_takes_the_users_of_its_predecessor_offline(
    world: World, here: runtime.Runtime
) -> None:
    async with connected(world.url("ann")), connected(world.url("bob", 1)):
        await world.until_told("ann", "+")
        await world.until_told("bob", "+")
        for server in world.stack.push_servers:
            server.send(signal.SIGKILL)
    world.stack.push_server()
    await world.until_told("ann", "+-")
    await world.until_told("bob", "+-")
    assert _online(["ann", "bob"]) == []


async def test_a_stopped_push_server_takes_its_users_offline_at_once(
    world: World, here: runtime.Runtime
) -> None:
    async with connected(world.url("ann", 1)), connected(world.url("bob")):
        await world.until_told("ann", "+")
        await world.until_told("bob", "+")
        world.stack.push_servers[1].send(signal.SIGTERM)
        await world.until_told("ann", "+-")
        assert world.told("bob") == "+"


async def test_redis_killed_and_started_again_costs_nothing(
    world: World, here: runtime.Runtime
) -> None:
    users = [f"u{number}" for number in range(20)]
    async with AsyncExitStack() as kept:
        stays, goes = users[:10], users[10:]
        for number, user in enumerate(stays):
            await kept.enter_async_context(connected(world.url(user, number % 2)))
        async with AsyncExitStack() as left:
            for number, user in enumerate(goes):
                await left.enter_async_context(connected(world.url(user, number % 2)))
            for user in users:
                await world.until_told(user, "+")
            await asyncio.to_thread(world.redis.kill)
        # They have left while Redis was away.
        await asyncio.to_thread(world.redis.start)
        await assert_settled(world, set(stays), users)
    await assert_settled(world, set(), users)
    for user in users:
        assert world.told(user) == "+-"


async def test_a_redis_that_was_emptied_is_told_again_and_the_application_is_not(
    world: World, here: runtime.Runtime
) -> None:
    async with connected(world.url("ann")), connected(world.url("bob", 1)):
        await world.until_told("ann", "+")
        await world.until_told("bob", "+")
        # What was told is in the same Redis: it is kept for the test.
        with world.redis.client() as client:
            told = client.lrange(f"{world.stack.namespace}:told", 0, -1)
            client.flushall()
            client.rpush(f"{world.stack.namespace}:told", *cast("list[str]", told))
        await eventually_async(lambda: len(_online(["ann", "bob"])) == 2, what="both to be back")
    await assert_settled(world, set(), ["ann", "bob"])
    assert (world.told("ann"), world.told("bob")) == ("+-", "+-")


async def test_a_worker_with_child_processes_tells_too(
    redis_server: RedisServer, write_app: WriteApp, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, write_app(FILES), QUEUE_RUN_OFFLINE_DELAY=str(DELAY))
    stack.push_server()
    stack.worker("-c", "2")
    stack.wait_until_ready()
    world = World(redis_server, stack)
    async with connected(world.url("ann")) as ann:
        await world.until_told("ann", "+")
        assert await ann.ask({"ask": "is_online", "user": "ann"}) is True
    await world.until_told("ann", "+-")
    await world.until_deleted()
    stack.workers[0].send(signal.SIGTERM)
    assert stack.workers[0].wait() == 0
    world.close()


async def test_a_killed_worker_is_followed_by_another(world: World) -> None:
    async with connected(world.url("ann")):
        await world.until_told("ann", "+")
        # Whichever has the lease: one after the other, a third one is there at the end.
        for number in range(2):
            await world.until_deleted()
            world.stack.worker("-P", "solo")
            world.stack.workers[number].kill()
            world.stack.workers[-1].wait_for_output("ready.")
            async with connected(world.url(f"u{number}")):
                await world.until_told(f"u{number}", "+")
    await world.until_told("ann", "+-")

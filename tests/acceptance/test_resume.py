"""Clients that come back: what they missed, their requests, their rooms; or the truth."""

import asyncio
import contextlib
import hashlib
import json
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis
from websockets.exceptions import InvalidStatus

from queue_run import socket
from queue_run.contracts.envelopes import ToUsers, encode
from queue_run.contracts.ids import UserId
from queue_run.contracts.keys import Keys
from queue_run.contracts.messages import Form, Message
from queue_run.process.runtime import Runtime, using
from queue_run.settings import Settings
from tests.clients import Client, connected
from tests.conftest import NewStack, new_namespace
from tests.processes import ROOT, RedisServer, Stack
from tests.waiting import DEADLINE, eventually, eventually_async

APP = ROOT / "tests" / "apps" / "resume"
#: Pings often, so that tests are short; its clients are dropped after a minute of silence.
SETTINGS = {"QUEUE_RUN_PING_INTERVAL": "0.5", "QUEUE_RUN_PING_TIMEOUT": "60"}


@pytest.fixture(scope="module")
def stack(redis_server: RedisServer) -> Iterator[Stack]:
    """Two push servers and a worker that every test leaves as they were."""
    stack = Stack(redis_server.url, APP, new_namespace())
    stack.push_server()
    stack.push_server()
    stack.worker("-P", "solo")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


class Enveloped:
    """A client of the envelope protocol, frame by frame."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.welcome: dict[str, Any] = {}

    @property
    def place(self) -> dict[str, str]:
        """Where it would resume, had it received nothing but its welcome."""
        return {name: self.welcome[name] for name in ("session", "offset", "epoch")}

    async def ask(self, number: int, **data: Any) -> None:
        await self.client.send({"id": number, "data": data})

    async def resume(self, place: dict[str, str]) -> None:
        await self.client.send({"type": "resume", **place})

    async def next(self) -> dict[str, Any]:
        """The next frame that is no ping."""
        while True:
            frame: dict[str, Any] = await self.client.receive()
            if frame["type"] != "ping":
                return frame
            # A client that is silent is dropped.
            await self.client.send({"type": "pong"})

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """All frames up to the first of this type."""
        frames = [await self.next()]
        while frames[-1]["type"] != kind:
            frames.append(await self.next())
        return frames

    def drop(self) -> None:
        """Lose the socket, as in a tunnel."""
        self.client.connection.transport.abort()


@contextlib.asynccontextmanager
async def enveloped(
    stack: Stack, server: int = 0, *, user: str | None = None
) -> AsyncIterator[Enveloped]:
    headers = {"Authorization": f"Bearer {user}"} if user else {}
    async with connected(
        stack.ws(server=server), subprotocols=["queue-run.v1"], additional_headers=headers
    ) as client:
        made = Enveloped(client)
        made.welcome = await client.receive()
        assert made.welcome["type"] == "welcome"
        yield made


@contextlib.contextmanager
def sending(stack: Stack) -> Iterator[Callable[..., None]]:
    """Sends from this process, as any program of the application may."""
    settings = Settings(redis_url=stack.redis_url, namespace=stack.namespace)
    with using(Runtime(settings)):

        def send(user: str, *messages: Any) -> None:
            for message in messages:
                socket.to(user).send(message)

        yield lambda user, *messages: _in_thread(send, user, *messages)


def _in_thread(function: Callable[..., None], *arguments: Any) -> None:
    # Synchronous code, whichever loop runs here: on return the messages are on the channel.
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()


def runs(stack: Stack, name: str) -> int:
    """How often the handler ran for the request of this name."""
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        return list(client.lrange(f"{stack.namespace}:runs", 0, -1)).count(name)


def data_of(frames: list[dict[str, Any]]) -> list[Any]:
    return [frame["data"] for frame in frames if frame["type"] == "message"]


# Messages


@pytest.mark.parametrize("server", [0, 1])
async def test_what_was_missed_comes_once_and_in_order_on_either_server(
    stack: Stack, server: int
) -> None:
    user = f"misses-{server}"
    with sending(stack) as send:
        async with enveloped(stack, user=user) as before:
            send(user, 1)
            first = await before.next()
            before.drop()
        send(user, 2, 3)
        async with enveloped(stack, server, user=user) as after:
            send(user, 4)
            await after.resume({**before.place, "offset": first["offset"]})
            frames = await after.until("resumed")
            send(user, 5)
            frames.append(await after.next())
    assert data_of(frames) == [2, 3, 4, 5]


async def test_a_client_resumes_on_a_push_server_that_has_just_started(stack: Stack) -> None:
    with sending(stack) as send:
        async with enveloped(stack, user="early") as before:
            before.drop()
        send("early", 1, 2)
        late = Stack(stack.redis_url, APP, stack.namespace)
        try:
            late.push_server()
            await asyncio.to_thread(late.wait_until_ready)
            async with enveloped(late, user="early") as after:
                await after.resume(before.place)
                assert data_of(await after.until("resumed")) == [1, 2]
        finally:
            late.end()


@pytest.mark.parametrize("change", [{"epoch": "another"}, {"offset": "none"}])
async def test_a_place_that_is_none_is_a_gap(stack: Stack, change: dict[str, str]) -> None:
    async with enveloped(stack, user="lost") as client:
        await client.resume({**client.place, **change})
        assert (await client.next())["type"] == "gap"
        with sending(stack) as send:
            send("lost", 1)
        assert data_of([await client.next()]) == [1]


BEYOND = [
    "{next}",
    "{later}-0",
    "9999999999999-0",
    "18446744073709551615-18446744073709551615",
]
NONE = ["-1-0", "1--1", "1_0-0", "1", "", "99999999999999999999-0", "9" * 5000 + "-0", "\u0663-0"]


@pytest.mark.parametrize("server", [0, 1])
@pytest.mark.parametrize("offset", BEYOND + NONE, ids=range(len(BEYOND + NONE)))
async def test_an_offset_that_was_never_given_out_is_a_gap_and_hides_nothing(
    stack: Stack, offset: str, server: int
) -> None:
    user = f"future-{server}-{hash(offset)}"
    with sending(stack) as send:
        async with enveloped(stack, user=user) as before:
            send(user, 0)
            last = (await before.next())["offset"]
            await known(stack, before)
            before.drop()
        milliseconds, _, number = last.partition("-")
        asked = offset.format(
            next=f"{milliseconds}-{int(number) + 1000}", later=int(milliseconds) + 3_600_000
        )
        async with enveloped(stack, server, user=user) as after:
            await after.resume({**before.place, "offset": asked})
            answer = (await after.until("gap"))[-1]
            assert answer["session"] == before.place["session"]
            send(user, 1)
            assert data_of([await after.next()]) == [1]


async def test_a_client_that_was_further_on_another_push_server_is_told_of_no_gap(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, APP)
    stack.push_server()
    slow = stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    with sending(stack) as send:
        async with enveloped(stack, user="ann") as before:
            await before.client.send({"type": "start"})
            slow.send(signal.SIGSTOP)
            try:
                send("ann", *range(500))
                frames = [await before.next() for _ in range(500)]
            finally:
                slow.send(signal.SIGCONT)
            before.drop()
        async with enveloped(stack, 1, user="ann") as after:
            await after.resume({**before.place, "offset": frames[399]["offset"]})
            missed = await after.until("resumed")
            send("ann", "new")
            missed.append(await after.next())
    assert data_of(missed) == [*range(400, 500), "new"]


async def test_when_offsets_begin_anew_everybody_is_told_and_nothing_is_hidden(
    own_redis: RedisServer, new_stack: NewStack
) -> None:
    """A replica was promoted that lacks the last entries, or its clock is behind: no link breaks,
    and the epoch is the same."""
    stack = new_stack(own_redis, APP)
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    broadcast = Keys(stack.namespace).broadcast
    ahead = encode(ToUsers(users=[UserId("ann")], message=Message(Form.JSON, b'"ahead"')))
    with sending(stack) as send, own_redis.client() as admin:
        async with enveloped(stack, user="ann") as ann, enveloped(stack, user="ann") as gone:
            await ann.client.send({"type": "start"})
            await gone.client.send({"type": "start"})
            admin.xadd(broadcast, {"e": ahead}, id=f"{int(time.time() * 1000) + 3_600_000}-0")
            for each in (ann, gone):
                assert data_of([await each.next()]) == ["ahead"]
            gone.drop()
            admin.delete(broadcast)
            send("ann", "after")
            frames = await ann.until("gap")
            while "after" not in data_of(frames):
                frames.append(await ann.next())
            async with enveloped(stack, user="ann") as back:
                await back.resume(gone.place)
                assert (await back.next())["type"] == "gap"
                send("ann", "more")
                assert data_of([await back.next()]) == ["more"]


async def test_a_client_that_hears_nothing_but_pings_stays_up_to_date(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    quiet = new_stack(redis_server, APP, QUEUE_RUN_WINDOW_TIME="0.5", **SETTINGS)
    quiet.push_server()
    quiet.worker("-P", "solo")
    await asyncio.to_thread(quiet.wait_until_ready)
    with sending(quiet) as send:
        async with enveloped(quiet, user="quiet") as before:
            await before.client.send({"type": "start"})
            place = before.place
            # What others get moves the window on: after this, the first place is held no more.
            async with asyncio.timeout(DEADLINE):
                moved = 0
                while moved < 4:
                    send("others", moved)
                    frame = await before.client.receive()
                    assert frame["type"] == "ping"
                    await before.client.send({"type": "pong"})
                    moved += frame.get("offset", place["offset"]) != place["offset"]
                    place = {**place, "offset": frame.get("offset", place["offset"])}
            before.drop()
        async with enveloped(quiet, user="quiet") as stale, enveloped(quiet, user="quiet") as after:
            await stale.resume(before.place)
            await after.resume(place)
            assert (await stale.until("gap"))[-1]["type"] == "gap"
            assert (await after.next())["type"] == "resumed"


# Requests


@pytest.mark.parametrize("server", [0, 1])
async def test_a_reply_on_its_way_comes_after_the_resume_and_nothing_runs_twice(
    stack: Stack, server: int
) -> None:
    name = f"on-its-way-{server}"
    async with enveloped(stack, user="asks") as before:
        await before.ask(1, name=name, sleep=1)
        await before.ask(2, name=f"{name}-next")
        await eventually_async(lambda: runs(stack, name) == 1, what="the handler to run")
        before.drop()
    async with enveloped(stack, server, user="asks") as after:
        await after.resume(before.place)
        await after.ask(1, name=name, sleep=1)
        await after.ask(2, name=f"{name}-next")
        assert await after.next() == {
            "type": "resumed",
            "session": before.place["session"],
            "offset": after.place["offset"],
        }
        assert await after.next() == {"type": "reply", "id": 1, "data": name}
        assert await after.next() == {"type": "reply", "id": 2, "data": f"{name}-next"}
    assert runs(stack, name) == 1
    assert runs(stack, f"{name}-next") == 1


@pytest.mark.parametrize("server", [0, 1])
async def test_an_answer_that_was_lost_is_sent_again(stack: Stack, server: int) -> None:
    name = f"answered-{server}"
    async with enveloped(stack, user="asks") as before:
        await before.ask(1, name=name)
        assert (await before.next())["data"] == name
        before.drop()
    async with enveloped(stack, server, user="asks") as after:
        await after.resume(before.place)
        await after.ask(1, name=name)
        assert (await after.until("reply"))[-1] == {"type": "reply", "id": 1, "data": name}
    assert runs(stack, name) == 1


async def test_a_reply_is_found_after_its_push_server_was_killed(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, APP)
    stack.push_server()
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    async with enveloped(stack, user="asks") as before:
        await before.ask(1, name="killed", sleep=1)
        await eventually_async(lambda: runs(stack, "killed") == 1, what="the handler to run")
        stack.push_servers[0].send(signal.SIGKILL)
    async with enveloped(stack, 1, user="asks") as after:
        await after.resume(before.place)
        await after.ask(1, name="killed", sleep=1)
        assert (await after.until("reply"))[-1] == {"type": "reply", "id": 1, "data": "killed"}
    assert runs(stack, "killed") == 1


async def test_the_session_of_another_user_is_not_taken_over(stack: Stack) -> None:
    async with enveloped(stack, user="ann") as ann, enveloped(stack, user="eve") as eve:
        await ann.ask(1, name="of ann")
        await ann.next()
        await eve.resume(ann.place)
        answer = await eve.until("resumed")
        assert answer[-1]["session"] == eve.place["session"] != ann.place["session"]
        await eve.ask(1, name="of eve")
        assert (await eve.next())["data"] == "of eve"


def sealed_as_before(chance: str, user: str) -> str:
    """A session id as a client could make it for earlier releases."""
    seal = hashlib.blake2b(f"{chance} {user}".encode(), digest_size=6).hexdigest()
    return f"{chance}.{seal}"


@pytest.mark.parametrize(
    "session",
    [
        sealed_as_before("x" * 60_000, "maker"),
        sealed_as_before("mine", "maker"),
        "",
        "x",
        ".",
        "\ud83d",
        "x" * 60_000,
    ],
    ids=["long", "short", "empty", "word", "dot", "surrogate", "letters"],
)
async def test_a_session_that_a_client_has_made_is_none(stack: Stack, session: str) -> None:
    async with enveloped(stack, user="maker") as client:
        await client.resume({**client.place, "session": session})
        frames = [await client.next()]
        if frames[0]["type"] == "error":
            # It was no JSON text, even.
            assert session == "\ud83d"
        else:
            assert frames[0]["type"] == "resumed"
            assert frames[0]["session"] == client.place["session"]
        await client.ask(1, name="made", join="made-room")
        assert (await client.until("reply"))[-1]["data"] == "made"
    with redis.Redis.from_url(stack.redis_url) as admin:
        keys = list(admin.scan_iter(f"{stack.namespace}:*", count=1000))
    assert keys
    assert max(map(len, keys)) < 250


async def test_sessions_go_on_when_redis_has_lost_the_secret(
    own_redis: RedisServer, new_stack: NewStack
) -> None:
    # An answer to a handshake may be lost with the rest: then the client comes again.
    stack = new_stack(own_redis, APP, QUEUE_RUN_AUTHENTICATE_TIMEOUT="5")
    stack.push_server()
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    keys = Keys(stack.namespace)
    async with enveloped(stack, user="ann") as before:
        await before.client.send({"type": "start"})
        with own_redis.client() as admin:
            secret = admin.get(keys.session_secret)
            admin.flushall()
            gap = (await before.until("gap"))[-1]
            await eventually_async(
                lambda: admin.get(keys.session_secret) == secret, what="the secret again"
            )
        place = {name: gap[name] for name in ("session", "offset", "epoch")}
        before.drop()
    async with asyncio.timeout(DEADLINE):
        # A push server may still think of the workers as they were before, and then of none.
        while not await goes_on_if_let_in(stack, place):
            pass


async def goes_on_if_let_in(stack: Stack, place: dict[str, str]) -> bool:
    """Whether the session is taken for one of theirs; the other server may know of a gap in it."""
    try:
        async with enveloped(stack, 1, user="ann") as after:
            await after.resume(place)
            answer: dict[str, Any] = {}
            while answer.get("session") != place["session"]:
                # It may be told of a gap before its resume is read.
                answer = await after.next()
            return True
    except InvalidStatus:
        return False


async def test_push_servers_with_the_same_secret_need_none_in_redis(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    secret = "one for both of the servers"
    stack = new_stack(redis_server, APP, QUEUE_RUN_SESSION_SECRET=secret)
    stack.push_server()
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    async with enveloped(stack, user="ann") as before:
        await before.client.send({"type": "start"})
        await known(stack, before)
        before.drop()
    async with enveloped(stack, 1, user="ann") as after:
        await after.resume(before.place)
        assert (await after.until("resumed"))[-1]["session"] == before.place["session"]
    with redis_server.client() as admin:
        assert admin.get(Keys(stack.namespace).session_secret) is None
    assert secret not in stack.logs()


# Rooms, and clients without a user


async def test_after_a_resume_a_client_is_in_its_rooms_again(stack: Stack) -> None:
    async with enveloped(stack, user="joins") as before, enveloped(stack, user="talks") as other:
        await before.ask(1, name="a", join="hall")
        await before.next()
        await other.ask(1, name="b", room="hall", line="one")
        await other.next()
        heard = await before.next()
        assert heard["data"] == "one"
        before.drop()
        await other.ask(2, name="c", room="hall", line="two")
        await other.next()
        async with enveloped(stack, 1, user="joins") as after:
            await after.resume({**before.place, "offset": heard["offset"]})
            assert data_of(await after.until("resumed")) == ["two"]
            await after.ask(2, name="d", room="hall", line="own", spare=True)
            assert (await after.next())["type"] == "reply"
            await other.ask(3, name="e", room="hall", line="three")
            assert data_of([await after.next()]) == ["three"]


async def test_what_a_handler_sends_to_a_client_without_a_user_waits_for_it(stack: Stack) -> None:
    async with enveloped(stack) as before:
        await before.ask(1, name="nobody", sleep=0.5, send="late")
        await eventually_async(lambda: runs(stack, "nobody") == 1, what="the handler to run")
        before.drop()
    async with enveloped(stack, 1) as after:
        await after.resume(before.place)
        await after.ask(1, name="nobody", sleep=0.5, send="late")
        frames = await after.until("reply")
    assert data_of(frames) == [{"sent": "late"}]
    assert frames[-1] == {"type": "reply", "id": 1, "data": "nobody"}


# Rooms that are joined and left while a client is away


@pytest.fixture(scope="module")
def forgetful(redis_server: RedisServer) -> Iterator[Stack]:
    """Two push servers that hardly remember messages, so that a client that was away gets a gap."""
    stack = Stack(redis_server.url, APP, new_namespace())
    for _ in range(2):
        stack.push_server(QUEUE_RUN_WINDOW_BYTES="2000")
    stack.worker("-P", "solo")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


#: What happens while the client is away, and the rooms that it is in after that: it was in the hall
#: and in the cellar.
LEAVES, JOINS_AGAIN, JOINS = {"leave": "hall"}, {"join": "hall"}, {"join": "garden"}
ROOMS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "handler leaves": ([LEAVES], ["cellar"]),
    "handler joins": ([JOINS], ["hall", "cellar", "garden"]),
    "handler leaves and joins": ([LEAVES, JOINS_AGAIN], ["hall", "cellar"]),
    "job leaves": ([{"job": [LEAVES]}], ["cellar"]),
    "job leaves and joins": ([{"job": [LEAVES, JOINS_AGAIN]}], ["hall", "cellar"]),
    "job leaves, handler joins": ([{"job": [LEAVES]}, JOINS_AGAIN], ["hall", "cellar"]),
    "handler joins, job leaves": ([JOINS, {"job": [{"leave": "garden"}]}], ["hall", "cellar"]),
    "all in turn": ([LEAVES, JOINS_AGAIN, {"job": [LEAVES]}, JOINS], ["cellar", "garden"]),
}


@pytest.mark.parametrize("held", [True, False], ids=["held", "forgotten"])
@pytest.mark.parametrize("case", ROOMS)
async def test_changes_of_rooms_while_a_client_is_away_are_in_force_when_it_is_back(
    stack: Stack, forgetful: Stack, case: str, held: bool
) -> None:
    stack = stack if held else forgetful
    steps, rooms = ROOMS[case]
    name = f"away-{list(ROOMS).index(case)}"
    steps = json.loads(re.sub("(hall|garden)", rf"\1-{name}", json.dumps(steps)))
    async with enveloped(stack, user=name) as before:
        for number, room in enumerate(("hall", "cellar")):
            await before.ask(number, name="joins", join=f"{room}-{name}")
            await before.next()
        await before.ask(2, name=name, steps=steps)
        await eventually_async(lambda: runs(stack, name), what="the handler to run")
        before.drop()
        await away(stack, before)
        with redis.Redis.from_url(stack.redis_url) as admin:
            admin.rpush(f"{stack.namespace}:go:{name}", "go")
            done = f"{stack.namespace}:done:{name}"
            await eventually_async(lambda: admin.llen(done), what="the changes of rooms")
    if not held:
        await forget(stack)
    async with enveloped(stack, 1, user=name) as after:
        await after.resume(before.place)
        answer = (await after.until("resumed" if held else "gap"))[-1]
        assert answer["session"] == before.place["session"]
        assert await hears(stack, after, name) == rooms


@pytest.mark.parametrize("who", ["handler", "job"])
async def test_who_is_made_to_leave_a_room_in_which_it_never_was_gets_nothing_of_it(
    stack: Stack, who: str
) -> None:
    name = f"never-{who}"
    leave = {"leave": f"secret-{name}"}
    async with enveloped(stack, user=name) as before, enveloped(stack, user="talks") as other:
        await before.ask(1, name="joins", join=f"hall-{name}")
        await before.next()
        await before.ask(2, name=name, steps=[leave if who == "handler" else {"job": [leave]}])
        await eventually_async(lambda: runs(stack, name), what="the handler to run")
        before.drop()
        await away(stack, before)
        for number, room in enumerate(("secret", "hall")):
            await other.ask(number, name="talks", room=f"{room}-{name}", line=room)
            await other.next()
        with redis.Redis.from_url(stack.redis_url) as admin:
            admin.rpush(f"{stack.namespace}:go:{name}", "go")
            done = f"{stack.namespace}:done:{name}"
            await eventually_async(lambda: admin.llen(done), what="the leave")
    async with enveloped(stack, 1, user=name) as after:
        await after.resume(before.place)
        assert data_of(await after.until("resumed")) == ["hall"]


async def known(stack: Stack, client: Enveloped) -> None:
    """Wait until Redis knows of a session, which its push server tells it in the background."""
    key = Keys(stack.namespace).session(client.place["session"])
    with redis.Redis.from_url(stack.redis_url) as admin:
        await eventually_async(lambda: admin.exists(key), what="the session in Redis")


async def away(stack: Stack, client: Enveloped) -> None:
    """Wait until the push server has seen that a client has gone."""
    key = Keys(stack.namespace).session(client.place["session"])
    with redis.Redis.from_url(stack.redis_url) as admin:
        # It is renewed while the client is here.
        await eventually_async(lambda: 0 < admin.pttl(key) <= 60_000, what="the end of its socket")


async def forget(stack: Stack) -> None:
    """Send to others until the window holds nothing of before."""
    async with enveloped(stack, 0, user="fill") as first, enveloped(stack, 1, user="fill") as other:
        for each in (first, other):
            await each.client.send({"type": "start"})
        with sending(stack) as send:
            send("fill", *(["x" * 500] * 20))
        for each in (first, other):
            assert len(data_of([await each.next() for _ in range(20)])) == 20


async def hears(stack: Stack, client: Enveloped, name: str) -> list[str]:
    """Of which rooms it gets the messages."""
    with sending(stack) as send:

        def send_to_rooms(*_: Any) -> None:
            for room in ("hall", "cellar", "garden"):
                socket.room(f"{room}-{name}").send(room)

        _in_thread(send_to_rooms, name)
        send(name, "end")
    heard: list[str] = []
    while heard[-1:] != ["end"]:
        heard += data_of([await client.next()])
    return heard[:-1]


async def test_after_its_time_a_session_is_another_one(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, APP, QUEUE_RUN_SESSION_TIME="1")
    stack.push_server()
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    keys = Keys(stack.namespace)
    async with (
        enveloped(stack, user="in") as inside,
        enveloped(stack, user="out") as outside,
        enveloped(stack, user="in") as stays,
    ):
        await inside.ask(1, name="joins", join="hall-in")
        await inside.next()
        for each in (outside, stays):
            await each.ask(1, name="asks")
            await each.next()
        for each in (inside, outside):
            each.drop()
        with redis.Redis.from_url(stack.redis_url) as admin:
            ended = [keys.session(each.place["session"]) for each in (inside, outside)]
            await eventually_async(lambda: not admin.exists(*ended), what="the end of the sessions")
            # What it was in is still known, and no reason to be in it again.
            assert admin.exists(keys.session_rooms(inside.place["session"]))
            # Its client is here.
            assert admin.exists(keys.session(stays.place["session"]))
        async with enveloped(stack, 1, user="in") as late, enveloped(stack, user="out") as other:
            await late.resume(inside.place)
            answer = (await late.until("gap"))[-1]
            assert answer["session"] == late.place["session"] != inside.place["session"]
            assert await hears(stack, late, "in") == []
            # It was in no room: it has missed nothing.
            await other.resume(outside.place)
            answer = (await other.until("resumed"))[-1]
            assert answer["session"] == other.place["session"] != outside.place["session"]


# Redis


async def told_of_the_epoch_in(redis: RedisServer, stack: Stack, client: Enveloped) -> None:
    """Wait until a client was told of a gap in the epoch that is in force. More gaps may come
    before: that messages are missing, and that offsets have begun anew, is seen by itself."""
    with redis.client() as admin:
        told = client.place["epoch"]
        while told != admin.get(Keys(stack.namespace).epoch):
            told = (await client.until("gap"))[-1]["epoch"]
    assert told != client.place["epoch"]


async def test_when_redis_has_lost_its_data_every_client_is_told(
    own_redis: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(own_redis, APP)
    stack.push_server()
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    async with enveloped(stack, user="away") as away:
        away.drop()
    async with enveloped(stack, user="ann") as ann, enveloped(stack, 1, user="bob") as bob:
        for each in (ann, bob):
            await each.client.send({"type": "start"})
        with own_redis.client() as client:
            client.flushall()
        for each in (ann, bob):
            await told_of_the_epoch_in(own_redis, stack, each)
        with sending(stack) as send:
            send("ann", "after")
        frames = [await ann.next()]
        while not data_of(frames):
            frames.append(await ann.next())
        assert data_of(frames) == ["after"]
    # The workers say anew that they are there.
    await asyncio.to_thread(stack.wait_until_ready)
    async with enveloped(stack, user="away") as back:
        await back.resume(away.place)
        assert (await back.next())["type"] == "gap"


async def test_a_restart_of_redis_that_keeps_its_data_is_no_gap(
    own_redis: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(own_redis, APP)
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    with sending(stack) as send:
        async with enveloped(stack, user="ann") as ann, enveloped(stack, user="ann") as live:
            await live.client.send({"type": "start"})
            ann.drop()
            send("ann", 1)
            await asyncio.to_thread(own_redis.kill)
            await asyncio.to_thread(own_redis.start)
            send("ann", 2)
            assert data_of([await live.next(), await live.next()]) == [1, 2]
            async with enveloped(stack, user="ann") as back:
                await back.resume(ann.place)
                assert data_of(await back.until("resumed")) == [1, 2]


async def test_what_was_cut_off_while_a_push_server_stood_still_is_told(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, APP, **SETTINGS)
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    broadcast = f"{stack.namespace}:broadcast"
    with sending(stack) as send, redis_server.client() as admin:
        async with enveloped(stack, user="ann") as ann:
            await ann.client.send({"type": "start"})
            send("ann", 0)
            assert data_of([await ann.next()]) == [0]
            stack.push_servers[0].send(signal.SIGSTOP)
            # What it has asked for already would still reach it.
            admin.client_kill_filter(_type="normal", skipme=True)
            send("ann", *range(1, 50))
            admin.xtrim(broadcast, maxlen=5, approximate=False)
            stack.push_servers[0].send(signal.SIGCONT)
            frames = [await ann.next()]
            assert frames[0]["type"] == "gap"
            while data_of(frames)[-1:] != [49]:
                frames.append(await ann.next())
            assert data_of(frames) == list(range(45, 50))


# The end of a push server


async def test_a_push_server_that_ends_sends_its_clients_away_and_serves_them_until_they_go(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, APP, QUEUE_RUN_RECONNECT_SPREAD="1")
    stack.push_server()
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    async with contextlib.AsyncExitStack() as opened, connected(stack.ws()) as plain:
        clients = [
            await opened.enter_async_context(enveloped(stack, user=f"user-{number}"))
            for number in range(10)
        ]
        for each in clients:
            await each.client.send({"type": "start"})
        await clients[0].ask(1, name="in flight", sleep=2)
        await eventually_async(lambda: runs(stack, "in flight") == 1, what="the handler to run")
        stack.push_servers[0].send(signal.SIGTERM)
        told = [await each.next() for each in clients]
        assert {frame["type"] for frame in told} == {"reconnect"}
        delays = [frame["after"] for frame in told]
        assert len(set(delays)) > 1
        assert all(0 <= delay <= 1000 for delay in delays)
        assert await plain.closed() == (1001, "the server is shutting down")
        # Until it goes, a client is served.
        await clients[1].ask(1, name="still")
        assert await clients[1].next() == {"type": "reply", "id": 1, "data": "still"}
        with sending(stack) as send:
            send("user-2", "here")
            assert data_of([await clients[2].next()]) == ["here"]
        for each in clients:
            await each.client.connection.close()
        async with enveloped(stack, 1, user="user-0") as after:
            await after.resume(clients[0].place)
            await after.ask(1, name="in flight", sleep=2)
            reply = (await after.until("reply"))[-1]
            assert reply == {"type": "reply", "id": 1, "data": "in flight"}
    assert runs(stack, "in flight") == 1
    assert await asyncio.to_thread(stack.push_servers[0].wait) == 0


async def test_a_client_that_does_not_go_is_closed_at_the_end_of_the_grace(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, APP, QUEUE_RUN_SHUTDOWN_GRACE="4")
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    async with enveloped(stack, user="stays") as client:
        await client.client.send({"type": "start"})
        stack.push_servers[0].send(signal.SIGTERM)
        assert (await client.next())["type"] == "reconnect"
        assert await client.client.closed() == (1012, "the server is shutting down")
    assert await asyncio.to_thread(stack.push_servers[0].wait) == 0


# Clients that have gone


async def test_a_client_that_does_not_answer_is_gone(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    # No machine stalls for longer: else the other client would be dropped as well.
    stack = new_stack(redis_server, APP, QUEUE_RUN_PING_INTERVAL="0.5", QUEUE_RUN_PING_TIMEOUT="8")
    stack.push_server()
    stack.worker("-P", "solo")
    await asyncio.to_thread(stack.wait_until_ready)
    async with enveloped(stack, user="silent") as silent, enveloped(stack, user="lives") as lives:

        async def live() -> None:
            while True:
                if (await lives.client.receive())["type"] == "ping":
                    await lives.client.send({"type": "pong"})

        living = asyncio.create_task(live())
        assert await silent.client.closed() == (1006, "")
        await asyncio.to_thread(
            eventually,
            lambda: "(user silent): dropped: silent for 8 seconds" in stack.logs(),
            what="the line in the log",
        )
        # By now it has answered several times.
        await lives.ask(1, name="alive")
        living.cancel()
        assert "(user lives): dropped" not in stack.logs()

"""What one client, one user and one address may have, on a real push server."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from websockets.exceptions import InvalidStatus

from queue_run.contracts.keys import Keys
from tests.clients import Client, connected
from tests.conftest import new_namespace
from tests.processes import ROOT, RedisServer, Stack
from tests.waiting import DEADLINE

APP = ROOT / "tests" / "apps" / "resume"
ROOMS, NAME, USER, SESSION = 3, 20, 4, 10


@pytest.fixture(scope="module")
def strict(redis_server: RedisServer) -> Iterator[Stack]:
    """A push server and a worker with low limits."""
    limits = {
        "QUEUE_RUN_MAX_ROOMS": str(ROOMS),
        "QUEUE_RUN_MAX_ROOM_BYTES": str(NAME),
        "QUEUE_RUN_MAX_USER_CONNECTIONS": "2",
        "QUEUE_RUN_MAX_USER_REQUESTS": str(USER),
        "QUEUE_RUN_MAX_SESSION_REQUESTS": str(SESSION),
        "QUEUE_RUN_MAX_ADDRESS_CONNECTIONS": "5",
        "QUEUE_RUN_TRUSTED_PROXIES": "127.0.0.1",
    }
    stack = Stack(redis_server.url, APP, new_namespace())
    stack.push_server(**limits)
    stack.push_server(QUEUE_RUN_MAX_ADDRESS_HANDSHAKES="1", QUEUE_RUN_TRUSTED_PROXIES="127.0.0.1")
    stack.worker("-P", "solo", **limits)
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


def headers(user: str | None = None, address: str = "10.0.0.1") -> dict[str, str]:
    """Of a client behind the proxy."""
    found = {"X-Forwarded-For": address}
    return found if user is None else {**found, "Authorization": f"Bearer {user}"}


async def refused(url: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as raised:
        async with connected(url, **options):
            pass
    response = raised.value.response
    assert int(response.headers["Retry-After"]) > 0
    return response.status_code, (response.body or b"").decode().strip()


async def let_in(url: str, **options: Any) -> None:
    """Come in once others have gone, which is seen a moment later."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(InvalidStatus):
                async with connected(url, **options):
                    return


async def test_a_user_has_so_many_connections_and_others_have_theirs(strict: Stack) -> None:
    def who(user: str | None, number: int) -> dict[str, Any]:
        return {"additional_headers": headers(user, f"10.1.0.{number}")}

    url = strict.ws()
    async with connected(url, **who("ann", 1)), connected(url, **who("bob", 2)):
        async with connected(url, **who("ann", 3)):
            answer = await refused(url, **who("ann", 4))
            assert answer == (429, "too many connections of this user")
            # Nobody is no user.
            async with contextlib.AsyncExitStack() as nobody:
                for number in range(5, 9):
                    await nobody.enter_async_context(connected(url, **who(None, number)))
        await let_in(url, **who("ann", 4))


async def test_an_address_has_so_many_connections(strict: Stack) -> None:
    url = strict.ws()
    async with contextlib.AsyncExitStack() as opened:
        for number in range(5):
            who = {"additional_headers": headers(f"user-{number}", "10.2.0.1")}
            await opened.enter_async_context(connected(url, **who))
        last = {"additional_headers": headers("last", "10.2.0.1")}
        assert await refused(url, **last) == (429, "too many connections from this address")
        # What a client claims of itself is believed of the proxy alone.
        forged = {"additional_headers": headers("last", "1.2.3.4, 10.2.0.1")}
        assert (await refused(url, **forged))[0] == 429
        async with connected(url, additional_headers=headers("last", "10.2.0.2")):
            pass
    await let_in(url, **last)


async def test_the_addresses_of_one_network_of_ipv6_are_one(strict: Stack) -> None:
    url = strict.ws()
    async with contextlib.AsyncExitStack() as opened:
        for number in range(5):
            who = {"additional_headers": headers(f"six-{number}", f"2001:db8:0:1::{number}")}
            await opened.enter_async_context(connected(url, **who))
        last = {"additional_headers": headers("six", "2001:db8:0:1:ffff::9")}
        assert await refused(url, **last) == (429, "too many connections from this address")
        async with connected(url, additional_headers=headers("six", "2001:db8:0:2::1")):
            pass
    await let_in(url, **last)


async def test_an_address_opens_so_many_connections_a_second(strict: Stack) -> None:
    url = strict.ws(server=1)
    fast = {"additional_headers": headers("fast", "10.3.0.1")}

    async def come() -> bool:
        """Whether one was let in."""
        try:
            async with connected(url, **fast):
                return True
        except InvalidStatus as refusal:
            if refusal.response.status_code != 429:
                raise
            return False

    came: list[bool] = []
    async with asyncio.timeout(DEADLINE):
        while all(came):
            # Side by side: a busy machine may take more than a second for each.
            came += await asyncio.gather(*(come() for _ in range(10)))
    assert sum(came) >= 2
    async with connected(url, additional_headers=headers("other", "10.3.0.2")):
        pass
    await let_in(url, **fast)


async def join(client: Client, room: str, number: int, *, enveloped: bool) -> None:
    data = {"name": "joined", "join": room}
    await client.send({"id": number, "data": data} if enveloped else data)


@pytest.mark.parametrize("enveloped", [False, True], ids=["plain", "enveloped"])
async def test_a_connection_is_in_so_many_rooms(strict: Stack, enveloped: bool) -> None:
    user = f"joins-{enveloped}"
    options: dict[str, Any] = {"additional_headers": headers(user, f"10.4.0.{int(enveloped)}")}
    if enveloped:
        options["subprotocols"] = ["queue-run.v1"]
    async with connected(strict.ws(), **options) as client:
        session = (await client.receive())["session"] if enveloped else None
        for number in range(ROOMS):
            await join(client, f"room-{number}", number, enveloped=enveloped)
            await client.receive()
        # One that it is in already is none more.
        await join(client, "room-0", 7, enveloped=enveloped)
        await client.receive()
        await join(client, "one more", 8, enveloped=enveloped)
        told = [await client.receive(), await client.receive()]
        error = "a connection may be in 3 rooms at most"
        expected = {"type": "error", "id": None, "error": error} if enveloped else {"error": error}
        assert expected in told
        if session is not None:
            with redis.Redis.from_url(strict.redis_url) as admin:
                kept = admin.hkeys(Keys(strict.namespace).session_rooms(session))
            assert sorted(kept) == [b"room-0", b"room-1", b"room-2"]


async def test_the_name_of_a_room_has_so_many_bytes(strict: Stack) -> None:
    async with connected(strict.ws(), additional_headers=headers("names", "10.5.0.1")) as client:
        assert await client.ask({"name": "joined", "join": "ü" * (NAME // 2)}) == "joined"
        assert "error" in await client.ask({"name": "joined", "join": "ü" * (NAME // 2) + "x"})
        assert await client.ask({"name": "next"}) == "next"


async def test_requests_of_a_user_without_outcome_are_so_many(strict: Stack) -> None:
    who = {"additional_headers": headers("busy", "10.6.0.1")}
    refusal = {"error": "too many requests of this user have no answer yet"}
    async with connected(strict.ws(), **who) as one, connected(strict.ws(), **who) as other:
        for _ in range(USER):
            await one.send({"name": "busy", "steps": []})
        assert await one.ask({"name": "one more"}) == refusal
        # So over all connections of the user.
        assert await other.ask({"name": "one more"}) == refusal
        with redis.Redis.from_url(strict.redis_url) as admin:
            admin.rpush(f"{strict.namespace}:go:busy", *["go"] * USER)
        assert [await one.receive() for _ in range(USER)] == ["busy"] * USER
        # Outcomes make room.
        assert await other.ask({"name": "again"}) == "again"


async def test_requests_of_a_session_that_redis_remembers_are_so_many(strict: Stack) -> None:
    options: dict[str, Any] = {"additional_headers": headers("many", "10.7.0.1")}
    async with connected(strict.ws(), subprotocols=["queue-run.v1"], **options) as client:
        session = (await client.receive())["session"]
        for number in range(SESSION):
            # The longest name that there may be.
            await client.send({"id": f"{number:02}" + "\x01" * 62, "data": {"name": "done"}})
            assert (await client.receive())["data"] == "done"
        await client.send({"id": 99, "data": {"name": "one more"}})
        error = "too many requests of this session: slow down"
        assert await client.receive() == {"type": "error", "id": 99, "error": error}
        with redis.Redis.from_url(strict.redis_url) as admin:
            claims = list(admin.scan_iter(f"{strict.namespace}:claim:{session}:*", count=1000))
        assert len(claims) == SESSION
        assert max(map(len, claims)) < 200

"""The links of the channel, on a real Redis."""

import asyncio
from typing import Any

import pytest
import redis
from redis.exceptions import RedisError, ResponseError

from queue_run.storage.links import AsyncLink, BlockingLink, async_client, packed
from queue_run.storage.patience import Unready
from tests.processes import RedisServer, free_port
from tests.waiting import DEADLINE, eventually_async


@pytest.fixture(scope="module")
def server():  # type: ignore[no-untyped-def]
    server = RedisServer()
    yield server
    server.end()


@pytest.mark.parametrize("options", ["", "?protocol=2", "?protocol=3"])
def test_commands_and_answers_go_in_one_round_trip(server: RedisServer, options: str) -> None:
    link = BlockingLink(server.url + options, timeout=DEADLINE)
    answers = link.exchange([("DEL", "a"), ("SET", "a", b"\xff"), ("GET", "a"), ("GET", "none")])
    assert answers[1:] == [b"OK", b"\xff", None]
    link.close()


def test_a_refused_command_has_its_error_as_its_answer(server: RedisServer) -> None:
    link = BlockingLink(server.url, timeout=DEADLINE)
    _, refused, after = link.exchange([("SET", "text", "x"), ("LPUSH", "text", 1), ("ECHO", "y")])
    assert isinstance(refused, ResponseError)
    assert after == b"y"
    link.close()


def test_answers_that_were_not_read_are_not_taken_for_those_of_the_next_commands(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = BlockingLink(server.url, timeout=DEADLINE)
    link.exchange([("PING",)])

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(link, "_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            link.exchange([("ECHO", "x"), ("ECHO", "y")])
    assert link.exchange([("ECHO", "z")]) == [b"z"]
    link.close()


def test_a_link_that_broke_is_opened_again(server: RedisServer) -> None:
    link = BlockingLink(server.url, timeout=DEADLINE)
    [own] = link.exchange([("CLIENT", "ID")])
    with server.client() as client:
        client.client_kill_filter(_id=own)
    with pytest.raises((RedisError, OSError)):
        link.exchange([("ECHO", "x")])
    assert link.exchange([("ECHO", "x")]) == [b"x"]
    link.close()


async def ask(link: AsyncLink, *command: str | bytes | int, patience: float = DEADLINE) -> Any:
    """The answer to one command."""
    answers: list[Any] = []
    await link.converse(packed(*command), answers.append, patience=patience)
    [answer] = answers
    return answer


@pytest.mark.parametrize("options", ["", "?protocol=2", "?protocol=3"])
async def test_an_asynchronous_link_answers_as_redis_does(
    server: RedisServer, options: str
) -> None:
    link = AsyncLink(server.url + options, connect_timeout=DEADLINE)
    await ask(link, "SET", "text", b"\xff")
    assert await ask(link, "GET", "text") == b"\xff"
    large = b"x" * 1_000_000
    assert await ask(link, "ECHO", large) == large
    with pytest.raises(ResponseError):
        await ask(link, "LPUSH", "text", 1)
    # That was an answer like any other.
    assert await ask(link, "ECHO", "x") == b"x"
    await link.close()


async def test_an_asynchronous_link_that_broke_is_opened_again(server: RedisServer) -> None:
    link = AsyncLink(server.url, connect_timeout=DEADLINE)
    own = await ask(link, "CLIENT", "ID")
    waiting = asyncio.create_task(ask(link, "BLPOP", "nothing", 0))
    with server.client() as client:
        # A client that is not blocked yet has not been asked yet.
        await eventually_async(
            lambda: client.client_list(client_id=[str(own)])[0]["cmd"] == "blpop", what="the wait"
        )
        client.client_kill_filter(_id=str(own))
    with pytest.raises(redis.ConnectionError, match="the link broke"):
        await waiting
    assert await ask(link, "ECHO", "x") == b"x"
    await link.close()


async def test_an_answer_that_does_not_come_is_not_taken_for_the_next_one(
    server: RedisServer,
) -> None:
    link = AsyncLink(server.url, connect_timeout=DEADLINE)
    with pytest.raises(redis.TimeoutError, match=r"no answer within 0\.05 seconds"):
        await ask(link, "BLPOP", "nothing", 0, patience=0.05)
    assert await ask(link, "ECHO", "x") == b"x"
    waiting = asyncio.create_task(ask(link, "BLPOP", "nothing", 0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await ask(link, "ECHO", "y") == b"y"
    await link.close()


async def test_each_answer_says_what_is_asked_next(server: RedisServer) -> None:
    link = AsyncLink(server.url, connect_timeout=DEADLINE)
    answers: list[int] = []

    def count(answer: int) -> bytes | None:
        answers.append(answer)
        return packed("INCR", "count") if answer < 5 else None

    await link.converse(packed("INCR", "count"), count, patience=DEADLINE)
    assert answers == [1, 2, 3, 4, 5]
    await link.close()


async def test_patience_is_for_each_answer(server: RedisServer) -> None:
    link = AsyncLink(server.url, connect_timeout=DEADLINE)
    rounds = iter(range(4))

    def wait_again(answer: Any) -> bytes | None:
        return packed("BLPOP", "nothing", 0.1) if next(rounds) < 3 else None

    # Four times a tenth of a second.
    await link.converse(packed("BLPOP", "nothing", 0.1), wait_again, patience=0.3)
    with pytest.raises(redis.TimeoutError):
        await ask(link, "BLPOP", "nothing", 0, patience=0.3)
    await link.close()


async def test_what_goes_wrong_with_an_answer_goes_to_who_asked(server: RedisServer) -> None:
    link = AsyncLink(server.url, connect_timeout=DEADLINE)

    def fail(answer: Any) -> bytes | None:
        raise LookupError(answer)

    with pytest.raises(LookupError):
        await link.converse(packed("ECHO", "x"), fail, patience=DEADLINE)
    assert await ask(link, "ECHO", "y") == b"y"
    await link.close()


async def test_a_closed_link_leaves_nothing_open(server: RedisServer) -> None:
    link = AsyncLink(server.url, connect_timeout=DEADLINE)
    own = await ask(link, "CLIENT", "ID")
    await link.close()
    await link.close()
    with server.client() as client:
        await eventually_async(
            lambda: not client.client_list(client_id=[str(own)]), what="the end of the connection"
        )


async def test_who_speaks_no_redis_is_an_error() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        link = AsyncLink(f"redis://127.0.0.1:{port}/0", connect_timeout=DEADLINE)
        with pytest.raises(RedisError):
            await ask(link, "GET", "x")
        await link.close()


async def test_where_nobody_listens_is_an_error() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with pytest.raises((RedisError, OSError)):
        BlockingLink(url, timeout=DEADLINE).exchange([("PING",)])
    with pytest.raises((RedisError, OSError)):
        await ask(AsyncLink(url, connect_timeout=DEADLINE), "PING")


async def test_a_node_that_takes_no_writes_is_left(own_redis: RedisServer) -> None:
    """Reads are answered there."""
    link = AsyncLink(own_redis.url, connect_timeout=DEADLINE)
    client = async_client(own_redis.url, connect_timeout=DEADLINE, retries=0)
    await link.prove("probe", patience=DEADLINE)
    assert await client.set("a", "b")
    [idle] = client.connection_pool._available_connections
    with own_redis.client() as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(ResponseError, match="READONLY"):
            await link.prove("probe", patience=DEADLINE)
        assert link._answers is not None
        assert link._answers.lost
        with pytest.raises(Unready, match="read only"):
            await client.set("a", "b")
        assert not idle.is_connected
        admin.execute_command("REPLICAOF", "NO", "ONE")
    await link.prove("probe", patience=DEADLINE)
    assert await client.set("a", "b")
    await link.close()
    await client.aclose()


async def test_other_refusals_keep_the_link(own_redis: RedisServer) -> None:
    client = async_client(own_redis.url, connect_timeout=DEADLINE, retries=0)
    await client.set("a", "b")
    [idle] = client.connection_pool._available_connections
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await client.xlen("a")
    assert idle.is_connected
    await client.aclose()

"""The links of the channel, on a real Redis."""

import pytest
from redis.exceptions import RedisError, ResponseError

from queue_run.channel.links import AsyncLink, BlockingLink
from tests.processes import RedisServer, free_port
from tests.waiting import DEADLINE


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


def test_a_link_that_broke_is_opened_again(server: RedisServer) -> None:
    link = BlockingLink(server.url, timeout=DEADLINE)
    [own] = link.exchange([("CLIENT", "ID")])
    with server.client() as client:
        client.client_kill_filter(_id=own)
    with pytest.raises((RedisError, OSError)):
        link.exchange([("ECHO", "x")])
    assert link.exchange([("ECHO", "x")]) == [b"x"]
    link.close()


async def test_an_asynchronous_link_answers_as_redis_does(server: RedisServer) -> None:
    link = AsyncLink(server.url, connect_timeout=DEADLINE)
    await link.ask("SET", "text", "x")
    assert await link.ask("GET", "text") == b"x"
    with pytest.raises(ResponseError):
        await link.ask("LPUSH", "text", 1)
    own = await link.ask("CLIENT", "ID")
    with server.client() as client:
        client.client_kill_filter(_id=str(own))
    with pytest.raises((RedisError, OSError)):
        await link.ask("ECHO", "x")
    assert await link.ask("ECHO", "x") == b"x"
    await link.close()


async def test_where_nobody_listens_is_an_error() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with pytest.raises((RedisError, OSError)):
        BlockingLink(url, timeout=DEADLINE).exchange([("PING",)])
    with pytest.raises((RedisError, OSError)):
        await AsyncLink(url, connect_timeout=DEADLINE).ask("PING")

"""A message goes back on its queue in one step, or stays written down."""

from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from queue_run.broker.putting_back import Commands, put_back
from tests.processes import RedisServer


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[Redis]:
    with own_redis.client() as client:
        yield client


def taken(client: Redis) -> None:
    client.hset("unacked", "tag", "note")
    client.zadd("index", {"tag": 5.25})


def pushed(key: str) -> Commands:
    commands = Commands()
    commands.rpush(key, "message")
    commands.lpush("bell", 1)
    commands.ltrim("bell", 0, 9)
    commands.pexpire("bell", 10_000)
    return commands


def back(client: Redis, found: bytes, key: str = "queue") -> bool:
    return put_back(
        client, unacked="unacked", index="index", tag="tag", found=found, commands=pushed(key)
    )


def test_it_goes_back_once(client: Redis) -> None:
    taken(client)
    assert back(client, b"note")
    assert not back(client, b"note")
    assert client.lrange("queue", 0, -1) == ["message"]
    assert client.llen("bell") == 1
    assert client.pttl("bell") > 0
    assert not client.exists("unacked", "index")


def test_what_is_another_message_by_now_is_left(client: Redis) -> None:
    taken(client)
    assert not back(client, b"another")
    assert client.hget("unacked", "tag") == "note"
    assert not client.exists("queue")


def test_a_tag_without_a_message_is_forgotten(client: Redis) -> None:
    client.zadd("index", {"tag": 5})
    assert not back(client, b"note")
    assert not client.exists("index", "queue")


def test_what_cannot_be_pushed_stays_written_down(client: Redis) -> None:
    taken(client)
    client.set("text", "no list")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        back(client, b"note", "text")
    assert client.hget("unacked", "tag") == "note"
    assert client.zscore("index", "tag") == 5.25


def test_a_full_redis_does_it(client: Redis) -> None:
    taken(client)
    client.config_set("maxmemory", "1")
    with pytest.raises(OutOfMemoryError):
        client.rpush("queue", "message")
    assert back(client, b"note")
    assert client.lrange("queue", 0, -1) == ["message"]

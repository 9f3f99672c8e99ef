"""What cannot be read: its line in the log, and its entry in the list."""

import json
from collections.abc import Iterator

import pytest
import redis

from queue_run.broker.unreadable import (
    LONGEST_KEPT,
    LONGEST_SHOWN,
    MOST_KEPT,
    drop,
    entry,
    excerpt,
    newest,
    set_aside,
)
from tests.processes import RedisServer


def test_an_entry_says_where_it_lay_when_and_why() -> None:
    kept = json.loads(entry("no JSON", source="shop.jobs", reason=ValueError("why")))
    assert kept.pop("at") > 1_700_000_000
    assert kept == {
        "from": "shop.jobs",
        "reason": "ValueError: why",
        "length": 7,
        "data": "no JSON",
    }


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"\xff\x00a", "\\xff\x00a"), ("\ud800", "\\ud800"), ("é", "é"), (b"", "")],
    ids=repr,
)
def test_an_entry_keeps_what_is_no_text(data: bytes | str, text: str) -> None:
    assert json.loads(entry(data, source="a", reason="why"))["data"] == text


def test_an_entry_and_a_line_are_short_whatever_they_are_about() -> None:
    long = "\x1b[31m\n" * 1_000_000
    kept = entry(long, source="a", reason=long)
    assert len(json.loads(kept)["data"]) == LONGEST_KEPT
    assert len(kept) < 10 * LONGEST_KEPT
    line = excerpt(long)
    assert len(line) < 5 * LONGEST_SHOWN
    assert line.isprintable()
    assert line.endswith("(6,000,000 in all)")


def test_a_reason_is_one_line_too(caplog: pytest.LogCaptureFixture, namespace: str) -> None:
    with redis.Redis(port=1) as nobody:
        set_aside(nobody, "a:unreadable", "data", source="here", reason=ValueError("a\nb\x1b"))
    first, second = caplog.messages
    assert "what lay in here cannot be read (ValueError: a\\nb\\x1b)" in first
    assert first.isprintable()
    assert "it could not be set aside" in second


def test_the_list_keeps_the_newest(redis_server: RedisServer, namespace: str) -> None:
    with redis_server.client() as client:
        for number in range(MOST_KEPT + 3):
            set_aside(client, namespace, str(number), source="here", reason="why")
        found = client.lrange(namespace, 0, -1)
    assert isinstance(found, list)
    assert [json.loads(each)["data"] for each in found] == [
        str(number) for number in reversed(range(3, MOST_KEPT + 3))
    ]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


def test_the_list_is_read_back(client: "redis.Redis", namespace: str) -> None:
    for data in (b"\xff", "\ud800"):
        set_aside(client, namespace, data, source="shop.jobs", reason=ValueError("why"))
    second, first = newest(client, namespace)
    assert (first.data, second.data) == ("\\xff", "\\ud800")
    assert (first.source, first.reason, first.length) == ("shop.jobs", "ValueError: why", 1)
    assert first.at <= second.at
    assert first.id != second.id
    assert newest(client, f"{namespace}:other") == []


def test_what_somebody_else_has_written_there_is_shown_too(
    client: "redis.Redis", namespace: str
) -> None:
    texts = [b"\xff\xfe", b'{"at": "noon"}', b"[]", b'{"id": 5, "at": 1}']
    client.rpush(namespace, *texts)
    found = newest(client, namespace)
    assert [each.data for each in found] == ["\\xff\\xfe", *(t.decode() for t in texts[1:])]
    assert all("none of ours" in each.reason for each in found)
    assert drop(client, namespace, [each.id for each in found]) == {each.id for each in found}
    assert newest(client, namespace) == []


def test_those_that_are_named_are_dropped_and_no_others(
    client: "redis.Redis", namespace: str
) -> None:
    for number in range(3):
        set_aside(client, namespace, str(number), source="here", reason="why")
    chosen = newest(client, namespace)[1].id
    assert drop(client, namespace, [chosen, "missing"]) == {chosen}
    assert [each.data for each in newest(client, namespace)] == ["2", "0"]
    assert drop(client, namespace, [chosen]) == set()


def test_a_full_redis_keeps_it(own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        set_aside(client, "unreadable", "first", source="here", reason="why")
        client.config_set("maxmemory", "1")
        set_aside(client, "unreadable", "second", source="here", reason="why")
        kept = [json.loads(each)["data"] for each in client.lrange("unreadable", 0, -1)]
    assert kept == ["second", "first"]

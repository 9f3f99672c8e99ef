"""Until when a write may be done. What for: tests/contract/test_late_pushes.py."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from queue_run.storage import late_pushes
from queue_run.storage.late_pushes import PUSH, PushedTooLate, WriteLimits
from tests.processes import RedisServer


class Redis:
    """A Redis whose clock is an hour ahead."""

    def __init__(self) -> None:
        self.asked = 0

    def time(self) -> tuple[int, int]:
        self.asked += 1
        now = time.time() + 3600
        return int(now), int(now % 1 * 1e6)


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


def test_a_limit_is_by_redis_clock() -> None:
    last = WriteLimits().last(2.5, Redis().time)
    assert last / 1000 == pytest.approx(time.time() + 3602.5, abs=1)


def test_who_waits_for_ever_has_no_limit() -> None:
    server = Redis()
    assert WriteLimits().last(None, server.time) == 0
    assert server.asked == 0


def test_the_clock_is_measured_now_and_again_and_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, limits = Redis(), WriteLimits()
    for _ in range(5):
        limits.last(1.0, server.time)
    assert server.asked == 1
    limits.distrust()
    limits.last(1.0, server.time)
    assert server.asked == 2
    monkeypatch.setattr(late_pushes, "MEASURE_INTERVAL", 0.0)
    limits.distrust()
    for _ in range(3):
        limits.last(1.0, server.time)
    assert server.asked == 5


def test_a_message_is_put_on_its_list_and_the_bell_rings(client: Any, namespace: str) -> None:
    keys = [f"{namespace}:list", f"{namespace}:bell"]
    now = client.time()[0] * 1000
    for last in (0, now + 60_000):
        assert client.eval(*PUSH.given(keys, ["message", last, 3, 5000, 0])) == 1
    assert client.lrange(keys[0], 0, -1) == [b"message", b"message"]
    assert client.llen(keys[1]) == 2
    assert 0 < client.pttl(keys[1]) <= 5000
    for _ in range(5):
        client.eval(*PUSH.given(keys, ["message", 0, 3, 5000, 0]))
    assert client.llen(keys[1]) == 3


def test_a_message_that_comes_too_late_is_not(client: Any, namespace: str) -> None:
    keys = [f"{namespace}:list", f"{namespace}:bell"]
    now = client.time()[0] * 1000
    assert client.eval(*PUSH.given(keys, ["message", now - 1000, 3, 5000, 0])) == 0
    assert not client.exists(*keys)


def test_it_says_what_it_is() -> None:
    assert str(PushedTooLate()) == "Redis was reached too late"

"""Streams that are bounded in bytes, on a real Redis."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from queue_run.channel.bounds import CUT, PART, ByteBound
from tests.processes import RedisServer

MIB = 1024 * 1024


class Stream:
    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def add(self, *sizes: int) -> None:
        for size in sizes:
            self._client.xadd(self._name, {"e": b"x" * size})

    def cut(self, max_bytes: int) -> int:
        cut: int = self._client.eval(*CUT.given([self._name], [max_bytes]))
        return cut

    @property
    def sizes(self) -> list[int]:
        return [len(fields[b"e"]) for _, fields in self._client.xrange(self._name)]

    @property
    def memory(self) -> int:
        usage: int = self._client.memory_usage(self._name, samples=0)
        return usage


@pytest.fixture
def stream(redis_server: RedisServer, namespace: str) -> Iterator[Stream]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield Stream(client, namespace)
        client.delete(namespace)


def test_the_oldest_entries_are_cut_off(stream: Stream) -> None:
    stream.add(*range(MIB, MIB + 20))
    assert stream.cut(8 * MIB) >= 12
    kept = stream.sizes
    assert kept == list(range(MIB + 20 - len(kept), MIB + 20))
    assert stream.memory <= 8 * MIB
    # No more than had to go: Redis takes up to a quarter more for an entry than it has bytes.
    assert len(kept) >= 5


def test_small_entries_do_not_go_for_the_sake_of_large_ones_before_them(stream: Stream) -> None:
    stream.add(*[MIB] * 8, *[100] * 5000)
    stream.cut(2 * MIB)
    assert stream.sizes[-5000:] == [100] * 5000
    assert stream.memory <= 2 * MIB


def test_large_entries_push_out_the_small_ones_before_them(stream: Stream) -> None:
    stream.add(*[100] * 3000, *[MIB] * 4)
    stream.cut(2 * MIB)
    assert set(stream.sizes) == {MIB}


def test_the_last_entry_stays_however_large(stream: Stream) -> None:
    stream.add(MIB, 2 * MIB)
    stream.cut(1000)
    assert stream.sizes == [2 * MIB]
    assert stream.cut(1000) == 0


def test_what_fits_is_left_alone(stream: Stream) -> None:
    assert stream.cut(MIB) == 0
    stream.add(*[1000] * 50)
    assert stream.cut(MIB) == 0
    assert len(stream.sizes) == 50


def test_a_stream_is_measured_after_each_part_of_its_bound() -> None:
    bound = ByteBound(1600)
    due = [number for number in range(1, 41) if bound.passed("s", 1600 // PART // 10) is not None]
    assert due == [10, 20, 30, 40]
    assert bound.passed("s", 1600) == ("EVAL", CUT.text, 1, "s", "1600")


def test_streams_are_counted_one_by_one() -> None:
    bound = ByteBound(1600)
    assert [bound.passed(stream, 99) for stream in "abcabd"] == [None] * 3 + [
        ("EVAL", CUT.text, 1, stream, "1600") for stream in "ab"
    ] + [None]


def test_without_a_bound_nothing_is_measured() -> None:
    assert ByteBound(None).passed("s", 10**12) is None


def test_a_redis_that_refuses_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    bound = ByteBound(1600)
    for _ in range(3):
        bound.failed(redis.ResponseError("NOPERM no MEMORY for you"))
    [text] = caplog.messages
    assert text.endswith("not in bytes: NOPERM no MEMORY for you")


def test_streams_that_are_gone_are_forgotten() -> None:
    bound = ByteBound(1_000_000)
    for number in range(1, 3000):
        bound.passed(f"s{number}", 1)
        bound.passed("busy", 1_000_000)
    assert len(bound._passed) <= 1001

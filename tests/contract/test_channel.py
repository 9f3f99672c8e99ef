"""What the channel promises, on every Redis it runs on."""

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import redis

from queue_run.channel.listener import (
    Entry,
    Listener,
    LostEntries,
    Offset,
    format_offset,
    parse_offset,
)
from queue_run.channel.publisher import Publisher
from queue_run.errors import ChannelUnavailable
from tests.processes import RedisServer, environment, free_port
from tests.waiting import DEADLINE, eventually, eventually_async


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    publisher = Publisher(redis_url, timeout=DEADLINE)
    yield publisher
    publisher.close()


@asynccontextmanager
async def listening(url: str, *streams: str) -> AsyncIterator["Reader"]:
    gaps: list[LostEntries] = []
    listener = Listener(url, streams)
    await listener.open()
    reader = Reader(listener, gaps)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await listener.close()


class Reader:
    """Collects what a listener gives out."""

    def __init__(self, listener: Listener, gaps: list[LostEntries]) -> None:
        self.listener = listener
        self.gaps = gaps
        self.entries: list[Entry] = []
        self._news = asyncio.Event()

    async def run(self) -> None:
        await self.listener.run(self._take, self.gaps.append)

    def _take(self, batch: list[Entry]) -> None:
        self.entries += batch
        self._news.set()

    async def read(self, count: int) -> list[bytes]:
        async with asyncio.timeout(DEADLINE):
            while len(self.entries) < count:
                self._news.clear()
                await self._news.wait()
        return [entry.data for entry in self.entries]


def publish(publisher: Publisher, stream: str, *messages: bytes) -> None:
    for message in messages:
        publisher.publish(stream, message, max_entries=1000)


async def test_a_listener_gets_what_is_published_after_it_opened_in_order(
    redis_url: str, publisher: Publisher, namespace: str
) -> None:
    publish(publisher, namespace, b"before")
    async with listening(redis_url, namespace) as reader:
        await asyncio.to_thread(publish, publisher, namespace, b"one", b"two", b"three")
        assert await reader.read(3) == [b"one", b"two", b"three"]


async def test_a_listener_of_two_streams_keeps_the_order_of_each(
    redis_url: str, publisher: Publisher, namespace: str
) -> None:
    left, right = f"{namespace}:left", f"{namespace}:right"
    async with listening(redis_url, left, right) as reader:
        for number in range(50):
            publisher.submit(left, b"l%d" % number, max_entries=1000)
            publisher.submit(right, b"r%d" % number, max_entries=1000)
        await reader.read(100)
        for stream, letter in ((left, b"l"), (right, b"r")):
            got = [entry.data for entry in reader.entries if entry.stream == stream]
            assert got == [b"%b%d" % (letter, number) for number in range(50)]


async def test_what_is_published_without_waiting_keeps_its_order(
    redis_url: str, publisher: Publisher, namespace: str
) -> None:
    expected = [b"%d" % number for number in range(500)]
    async with listening(redis_url, namespace) as reader:
        receipts = [publisher.submit(namespace, each, max_entries=1000) for each in expected]
        await receipts[-1]
        assert all(receipt.done for receipt in receipts)
        assert await reader.read(500) == expected


async def test_a_waiting_publish_overtakes_nothing_that_was_submitted_before(
    redis_url: str, publisher: Publisher, namespace: str
) -> None:
    async with listening(redis_url, namespace) as reader:
        for number in range(100):
            publisher.submit(namespace, b"%d" % number, max_entries=1000)
        await asyncio.to_thread(publish, publisher, namespace, b"last")
        assert (await reader.read(101))[-1] == b"last"


def test_a_publish_is_on_the_channel_when_it_returns(
    redis_url: str, publisher: Publisher, namespace: str
) -> None:
    receipt = publisher.publish(namespace, b"here", max_entries=1000).value
    with redis.Redis.from_url(redis_url) as client:
        [(offset, fields)] = client.xrange(namespace)
    assert receipt.offset == offset.decode()
    assert fields == {b"e": b"here"}


def test_publishing_to_a_stream_that_is_gone_writes_nothing_and_says_so(
    redis_url: str, publisher: Publisher, namespace: str
) -> None:
    receipt = publisher.publish(namespace, b"lost", max_entries=1000, create=False)
    assert receipt.value.offset is None
    with redis.Redis.from_url(redis_url) as client:
        assert client.exists(namespace) == 0


def test_threads_may_publish_at_the_same_time(
    redis_url: str, publisher: Publisher, namespace: str
) -> None:
    def write(letter: bytes) -> None:
        publish(publisher, namespace, *[b"%b%d" % (letter, number) for number in range(100)])

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    with redis.Redis.from_url(redis_url) as client:
        got = [fields[b"e"] for _, fields in client.xrange(namespace)]
    for letter in (b"a", b"b", b"c"):
        mine = [each for each in got if each.startswith(letter)]
        assert mine == [b"%b%d" % (letter, number) for number in range(100)]


def test_a_process_that_ends_sends_what_it_has_not_waited_for(
    redis_url: str, namespace: str
) -> None:
    code = (
        "import asyncio\n"
        "from queue_run import socket\n"
        "async def main():\n"
        "    socket.to('ann').send('forgotten')\n"
        "asyncio.run(main())\n"
    )
    environ = environment(REDIS_URL=redis_url, QUEUE_RUN_NAMESPACE=namespace)
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=DEADLINE)
    with redis.Redis.from_url(redis_url) as client:
        assert client.xlen(f"{namespace}:broadcast") == 1


async def test_a_listener_resumes_behind_the_last_entry_when_its_link_is_cut(
    redis_server: RedisServer, namespace: str
) -> None:
    publisher = Publisher(redis_server.url, timeout=DEADLINE)
    with redis_server.client() as admin:
        async with listening(redis_server.url, namespace) as reader:
            for number in range(200):
                if number % 20 == 10:
                    cut_blocked_links(admin)
                await publisher.submit(namespace, b"%d" % number, max_entries=1000)
            assert await reader.read(200) == [b"%d" % number for number in range(200)]
            assert reader.gaps == []
    publisher.close()


async def test_a_listener_tells_of_a_gap_when_its_place_was_trimmed_while_it_was_away(
    own_redis: RedisServer, namespace: str
) -> None:
    publisher = Publisher(own_redis.url, timeout=DEADLINE)
    with own_redis.client() as admin:
        async with listening(own_redis.url, namespace) as reader:
            await publisher.submit(namespace, b"seen", max_entries=1000)
            await reader.read(1)
            # One transaction: the listener cannot read between the cut and the trim.
            pipeline = admin.pipeline(transaction=True)
            for client in admin.client_list():
                if client["cmd"].startswith("xread"):
                    pipeline.client_kill_filter(_id=client["id"])
            pipeline.xadd(namespace, {"e": "missed"})
            pipeline.xadd(namespace, {"e": "kept"})
            pipeline.xtrim(namespace, maxlen=1, approximate=False)
            pipeline.execute()
            assert (await reader.read(2))[-1] == b"kept"
            assert reader.gaps == [LostEntries(namespace, went_back=False)]
    publisher.close()


async def test_a_publish_survives_a_redis_that_is_killed_and_comes_back(
    own_redis: RedisServer, namespace: str
) -> None:
    publisher = Publisher(own_redis.url, timeout=DEADLINE)
    async with listening(own_redis.url, namespace) as reader:
        await publisher.submit(namespace, b"before", max_entries=1000)
        own_redis.kill()
        receipt = publisher.submit(namespace, b"meanwhile", max_entries=1000)
        own_redis.start()
        await receipt
        assert await reader.read(2) == [b"before", b"meanwhile"]
    publisher.close()


def test_a_publish_waits_for_a_redis_that_fails_over(
    own_redis: RedisServer, namespace: str
) -> None:
    publisher = Publisher(own_redis.url, timeout=DEADLINE)
    with own_redis.client() as admin:
        publisher.publish(namespace, b"before", max_entries=10)
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        thread = threading.Thread(
            target=publisher.publish, args=(namespace, b"meanwhile"), kwargs={"max_entries": 10}
        )
        refused = "total_error_replies"
        before = admin.info("stats")[refused]
        thread.start()
        eventually(lambda: admin.info("stats")[refused] > before, what="a refusal")
        admin.execute_command("REPLICAOF", "NO", "ONE")
        thread.join(DEADLINE)
        assert [entry for _, entry in admin.xrange(namespace)] == [
            {"e": "before"},
            {"e": "meanwhile"},
        ]
    publisher.close()


def test_a_publish_fails_in_bounded_time_without_redis() -> None:
    publisher = Publisher(f"redis://127.0.0.1:{free_port()}/0", timeout=0.3)
    with pytest.raises(ChannelUnavailable, match="Redis took no message"):
        publisher.publish("stream", b"lost", max_entries=10)
    publisher.close()


async def test_a_failure_that_nobody_waited_for_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher = Publisher(f"redis://127.0.0.1:{free_port()}/0", timeout=0.2)
    receipt = publisher.submit("stream", b"lost", max_entries=10)
    await receipt.settled()
    publisher.close()
    with caplog.at_level(logging.ERROR):
        del receipt
        gc.collect()
    assert "a message that nobody waited for was not sent" in caplog.text


def test_offsets_compare_as_the_stream_does() -> None:
    assert parse_offset("9-10") > parse_offset(b"9-9") > parse_offset("8-11")
    assert format_offset(parse_offset("1700000000000-3")) == "1700000000000-3"


def cut_blocked_links(admin: "redis.Redis") -> None:
    """Cut the links of all listeners, as a failing network would."""
    for client in admin.client_list():
        if client["cmd"].startswith("xread"):
            admin.client_kill_filter(_id=client["id"])


async def entries_before(listener: Listener, stream: str, since: Offset) -> list[bytes]:
    return [entry.data async for page in listener.before(stream, since) for entry in page]


async def test_a_listener_gives_what_came_before_its_place(
    redis_url: str, namespace: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.channel.listener.READ_COUNT", 3)
    publish(publisher, namespace, *(str(number).encode() for number in range(10)))
    listener = Listener(redis_url, [namespace])
    await listener.open()
    publish(publisher, namespace, b"later")
    everything = await entries_before(listener, namespace, (0, 0))
    assert everything == [str(number).encode() for number in range(10)]
    assert await entries_before(listener, namespace, listener.position(namespace)) == []
    await listener.close()


async def test_it_is_known_since_when_a_stream_is_complete(
    redis_url: str, namespace: str, publisher: Publisher
) -> None:
    first = parse_offset(publisher.publish(namespace, b"1", max_entries=1000).value.offset or "")
    second = parse_offset(publisher.publish(namespace, b"2", max_entries=1000).value.offset or "")
    listener = Listener(redis_url, [namespace])
    await listener.open()
    assert await listener.complete_since(namespace, second) == second
    assert await listener.complete_since(namespace, (second[0], second[1] + 5)) == second
    assert await listener.complete_since(namespace, first) == first
    assert await listener.complete_since(f"{namespace}-none", first) == (0, 0)
    await listener.close()


async def test_a_stream_that_was_cut_is_complete_since_its_first_entry_only(
    redis_server: RedisServer, namespace: str
) -> None:
    publisher = Publisher(redis_server.url, timeout=DEADLINE)
    publish(publisher, namespace, b"1", b"2", b"3")
    listener = Listener(redis_server.url, [namespace])
    await listener.open()
    assert await listener.complete_since(namespace, (0, 0)) == (0, 0)
    with redis_server.client() as admin:
        admin.xtrim(namespace, maxlen=2, approximate=False)
    [(_, first), *_] = [
        (entry.data, entry.offset)
        async for page in listener.before(namespace, (0, 0))
        for entry in page
    ]
    since = await listener.complete_since(namespace, (0, 0))
    assert (0, 0) < since < first
    await listener.close()
    publisher.close()


async def test_a_backlog_that_was_cut_while_it_was_read_is_a_gap(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.channel.listener.READ_COUNT", 3)
    publisher = Publisher(redis_server.url, timeout=DEADLINE)
    gaps: list[LostEntries] = []
    listener = Listener(redis_server.url, [namespace])
    await listener.open()
    publish(publisher, namespace, *(str(number).encode() for number in range(9)))
    batches: list[list[bytes]] = []

    def take(batch: list[Entry]) -> None:
        batches.append([entry.data for entry in batch])
        if len(batches) == 1:
            with redis_server.client() as admin:
                admin.xtrim(namespace, maxlen=3, approximate=False)

    running = asyncio.create_task(listener.run(take, gaps.append))
    await eventually_async(lambda: len(batches) == 2, what="two batches")
    assert batches == [[b"0", b"1", b"2"], [b"6", b"7", b"8"]]
    assert gaps == [LostEntries(namespace, went_back=False)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await listener.close()
    publisher.close()

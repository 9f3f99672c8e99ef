"""A send that raised does not arrive later, whatever holds its bytes up."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from queue_run.channel.publisher import Publisher
from queue_run.errors import ChannelUnavailable
from queue_run.storage.clock import Clock
from tests.contract.test_channel import listening
from tests.faults.proxy import Proxy
from tests.processes import RedisServer
from tests.waiting import DEADLINE, eventually_async

#: Seconds for which a send is tried.
TIMEOUT = 1.0
#: Makes a publisher.
NewPublisher = Callable[[str], Publisher]


@pytest.fixture
def new_publisher() -> Iterator[NewPublisher]:
    made: list[Publisher] = []

    def make(url: str) -> Publisher:
        made.append(Publisher(url, timeout=TIMEOUT, clock=Clock()))
        return made[-1]

    yield make
    for each in made:
        each.close()


def send(publisher: Publisher, stream: str, *messages: bytes) -> list[bytes]:
    """Send them; those that did not raise."""
    sent = []
    for message in messages:
        try:
            publisher.publish(stream, message, max_entries=1000)
        except ChannelUnavailable:
            continue
        sent.append(message)
    return sent


def send_patiently(publisher: Publisher, stream: str, message: bytes) -> None:
    while not send(publisher, stream, message):
        pass


def held(url: str, stream: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.xlen(stream))


async def test_sends_that_a_frozen_redis_did_not_confirm_do_not_arrive_when_it_goes_on(
    own_redis: RedisServer, namespace: str, new_publisher: NewPublisher
) -> None:
    publisher = new_publisher(own_redis.url)
    async with listening(own_redis.url, namespace) as reader:
        await asyncio.to_thread(send_patiently, publisher, namespace, b"before")
        await reader.read(1)
        own_redis.process.send(signal.SIGSTOP)
        try:
            assert await asyncio.to_thread(send, publisher, namespace, b"1", b"2") == []
        finally:
            own_redis.process.send(signal.SIGCONT)
        await asyncio.to_thread(send_patiently, publisher, namespace, b"after")
        assert await reader.read(2) == [b"before", b"after"]
        # They did come to the stream: the fence kept them from readers.
        assert held(own_redis.url, namespace) > 2
        since = reader.entries[0].offset
        await asyncio.to_thread(send_patiently, publisher, namespace, b"end")
        assert await reader.read(3) == [b"before", b"after", b"end"]
        # So do readers that come later.
        pages = [page async for page in reader.listener.before(namespace, since)]
        assert [entry.data for page in pages for entry in page] == [b"after", b"end"]


async def test_a_send_whose_bytes_are_delayed_does_not_arrive_after_later_ones(
    redis_server: RedisServer, namespace: str, new_publisher: NewPublisher
) -> None:
    async with (
        Proxy(redis_server.port) as proxy,
        listening(redis_server.url, namespace) as reader,
    ):
        publisher = new_publisher(f"redis://127.0.0.1:{proxy.port}/0")
        await asyncio.to_thread(send_patiently, publisher, namespace, b"48")
        proxy.delay = 4 * TIMEOUT
        assert await asyncio.to_thread(send, publisher, namespace, b"49") == []
        proxy.delay = 0.0
        await asyncio.to_thread(send_patiently, publisher, namespace, b"104")
        await eventually_async(lambda: not proxy.held, what="the bytes that were delayed")
        await asyncio.to_thread(send_patiently, publisher, namespace, b"105")
        assert await reader.read(3) == [b"48", b"104", b"105"]


async def test_a_submit_that_failed_does_not_arrive_later_either(
    own_redis: RedisServer, namespace: str, new_publisher: NewPublisher
) -> None:
    publisher = new_publisher(own_redis.url)
    async with listening(own_redis.url, namespace) as reader:
        await asyncio.to_thread(send_patiently, publisher, namespace, b"before")
        own_redis.process.send(signal.SIGSTOP)
        try:
            receipts = [
                publisher.submit(namespace, b"%d" % number, max_entries=1000, share=number % 2 > 0)
                for number in range(20)
            ]
            for receipt in receipts:
                with pytest.raises(ChannelUnavailable):
                    await receipt
        finally:
            own_redis.process.send(signal.SIGCONT)
        await asyncio.to_thread(send_patiently, publisher, namespace, b"after")
        assert await reader.read(2) == [b"before", b"after"]


async def test_a_redis_that_is_back_in_time_has_everything_once_and_in_order(
    own_redis: RedisServer, namespace: str
) -> None:
    publisher = Publisher(own_redis.url, timeout=DEADLINE, clock=Clock())
    async with listening(own_redis.url, namespace) as reader:
        await publisher.submit(namespace, b"0", max_entries=1000)
        own_redis.process.send(signal.SIGSTOP)
        receipts = [
            publisher.submit(namespace, b"%d" % number, max_entries=1000) for number in range(1, 50)
        ]
        await asyncio.sleep(0)
        own_redis.process.send(signal.SIGCONT)
        for receipt in receipts:
            await receipt
        assert await reader.read(50) == [b"%d" % number for number in range(50)]
    publisher.close()


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
async def test_a_clock_of_redis_that_was_set_costs_no_message(
    redis_server: RedisServer, namespace: str, off: float
) -> None:
    """As after a failover: what the publisher knows of Redis' clock is wrong by an hour."""
    clock = Clock()
    publisher = Publisher(redis_server.url, timeout=DEADLINE, clock=clock)
    async with listening(redis_server.url, namespace) as reader:
        await publisher.submit(namespace, b"0", max_entries=1000)
        moment = time.monotonic()
        clock.learn((int(clock.now() + off), 0), moment, moment)
        for number in range(1, 20):
            await publisher.submit(namespace, b"%d" % number, max_entries=1000)
        assert await reader.read(20) == [b"%d" % number for number in range(20)]
    publisher.close()


async def test_a_stream_whose_offsets_are_ahead_of_redis_clock_takes_messages(
    redis_server: RedisServer, namespace: str
) -> None:
    """As after a failover to a Redis whose clock is an hour behind."""
    ahead = int((time.time() + 3600) * 1000)
    with redis_server.client() as client:
        client.xadd(namespace, {"e": "before"}, id=f"{ahead}-0")
    publisher = Publisher(redis_server.url, timeout=DEADLINE, clock=Clock())
    async with listening(redis_server.url, namespace) as reader:
        for number in range(20):
            await publisher.submit(namespace, b"%d" % number, max_entries=1000)
        assert await reader.read(20) == [b"%d" % number for number in range(20)]
    publisher.close()

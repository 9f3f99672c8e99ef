"""Queues without acknowledgements, read beside those that fill the prefetch, on a real Redis."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import kombu
import pytest
from kombu import Exchange, Queue

from queue_run.broker.apart import ApartConsumer
from queue_run.broker.redis_transport import BrokerConnection
from tests.processes import RedisServer
from tests.waiting import eventually


class Worker:
    """A consumer of requests and jobs that holds what it gets."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.server = server
        self.options = {
            "visibility_timeout": 3600,
            "unacked_restore_throttle": 1,
            "unacked_key": f"{namespace}.unacked",
            "unacked_index_key": f"{namespace}.unacked_index",
            "unacked_mutex_key": f"{namespace}.unacked_mutex",
        }
        exchange = Exchange(namespace)
        name = f"{namespace}.sockets"
        self.requests = Queue(name, exchange, routing_key=name, no_ack=True)
        name = f"{namespace}.jobs"
        self.jobs = Queue(name, exchange, routing_key=name)
        self.connection = self.connect()
        self.messages: list[Any] = []
        self.consumer = ApartConsumer(
            self.connection, [self.requests, self.jobs], on_message=self.messages.append
        )
        self.consumer.qos(prefetch_count=1)
        self.consumer.consume()

    def connect(self) -> kombu.Connection:
        return BrokerConnection(self.server.url, transport_options=self.options)

    def send(self, body: Any, queue: Queue) -> None:
        with self.connect() as connection:
            connection.Producer().publish(
                body, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue]
            )

    def drain_until(self, check: Callable[[], object], what: str) -> None:
        def drained() -> bool:
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=0.05)
            return bool(check())

        eventually(drained, what=what)

    def receive(self, count: int = 1) -> list[Any]:
        self.drain_until(lambda: len(self.messages) >= count, f"{count} messages")
        received, self.messages[:] = list(self.messages), []
        return received

    def bodies(self, count: int = 1) -> list[Any]:
        return [message.payload for message in self.receive(count)]

    def waiting(self, queue: Queue) -> int:
        with self.server.client() as client:
            count = client.llen(queue.name)
        assert isinstance(count, int)
        return count


@pytest.fixture
def worker(redis_server: RedisServer, namespace: str) -> Iterator[Worker]:
    worker = Worker(redis_server, namespace)
    yield worker
    worker.connection.release()


def test_requests_come_while_jobs_fill_the_prefetch(worker: Worker) -> None:
    for job in ("job 1", "job 2"):
        worker.send(job, worker.jobs)
    [held] = worker.receive()
    for n in range(5):
        worker.send(f"request {n}", worker.requests)
        assert worker.bodies() == [f"request {n}"]
    assert worker.waiting(worker.jobs) == 1
    held.ack()
    assert worker.bodies() == ["job 2"]


def test_requests_that_there_is_no_room_for_are_left_to_others(worker: Worker) -> None:
    channel: Any = worker.consumer.apart.channel if worker.consumer.apart else None
    worker.send("job", worker.jobs)
    worker.receive()
    channel.has_room = lambda: False
    # What it had asked for before comes to its end within a second.
    worker.drain_until(lambda: not blocked(worker), "the end of what it had asked for")
    worker.send("request", worker.requests)
    with suppress(TimeoutError):
        worker.connection.drain_events(timeout=0.2)
    assert worker.waiting(worker.requests) == 1
    channel.has_room = lambda: True
    assert worker.bodies() == ["request"]


def blocked(worker: Worker) -> bool:
    """Whether the link for requests waits for one at Redis."""
    assert worker.consumer.apart is not None
    channel: Any = worker.consumer.apart.channel
    identity = str(channel.client.connection._sock.getsockname()[1])
    with worker.server.client() as client:
        [found] = [each for each in client.client_list() if each["addr"].endswith(f":{identity}")]
    return "b" in found["flags"]


def test_a_queue_is_consumed_and_cancelled_as_if_there_were_one_channel(worker: Worker) -> None:
    consumer = worker.consumer
    assert consumer.consuming_from(worker.requests)
    assert consumer.consuming_from(worker.jobs)
    consumer.consume()
    worker.send("request", worker.requests)
    assert worker.bodies() == ["request"]
    consumer.cancel_by_queue(worker.requests.name)
    assert not consumer.consuming_from(worker.requests)
    worker.send("late", worker.requests)
    worker.send("job", worker.jobs)
    assert worker.bodies() == ["job"]
    consumer.add_queue(worker.requests)
    consumer.consume()
    assert worker.bodies() == ["late"]
    consumer.cancel()
    assert not consumer.consuming_from(worker.jobs)
    assert not consumer.consuming_from(worker.requests)


def test_a_consumer_without_such_a_queue_has_one_channel(worker: Worker) -> None:
    with worker.connect() as connection:
        consumer = ApartConsumer(connection, [worker.jobs], on_message=print)
        consumer.consume()
        assert consumer.apart is None


def test_what_dead_workers_held_comes_back_whichever_channel_is_asked(worker: Worker) -> None:
    worker.send("job", worker.jobs)
    worker.receive()
    with worker.server.client() as client:
        [tag] = client.zrange(worker.options["unacked_index_key"], 0, -1)
        client.zadd(worker.options["unacked_index_key"], {tag: 1})
    apart: Any = worker.consumer.apart
    apart.channel.qos.restore_visible(interval=1)
    assert worker.waiting(worker.jobs) == 1

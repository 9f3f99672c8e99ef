"""Messages that outlive the channel that they came through, on a real Redis."""

import logging
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import kombu
import pytest
from kombu import Exchange, Queue
from kombu.transport import redis as kombu_redis

from queue_run.broker import amqp_transport
from queue_run.broker.celery_app import create_celery
from queue_run.broker.redis_transport import BrokerConnection, RedisChannel, RedisTransport
from queue_run.settings import Settings
from queue_run.storage.patience import FAILURES
from queue_run.storage.script_files import load
from tests.processes import ROOT, RedisServer, environment
from tests.waiting import eventually


class Broker:
    """A queue on a Redis, as a worker and those who send to it see them."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.server = server
        self.client = server.client()
        self.unacked_key = f"{namespace}.unacked"
        self.index_key = f"{namespace}.unacked_index"
        self.queue = Queue(namespace, Exchange(namespace), routing_key=namespace)
        self._options = {
            "visibility_timeout": 3600,
            "unacked_restore_throttle": 1,
            "unacked_key": self.unacked_key,
            "unacked_index_key": self.index_key,
            "unacked_mutex_key": f"{namespace}.unacked_mutex",
        }
        self._connections: list[kombu.Connection] = []

    def connect(self) -> kombu.Connection:
        connection = BrokerConnection(self.server.url, transport_options=self._options)
        self._connections.append(connection)
        return connection

    def send(self, *bodies: str) -> None:
        with self.connect() as connection:
            for body in bodies:
                connection.Producer().publish(
                    body,
                    exchange=self.queue.exchange,
                    routing_key=self.queue.routing_key,
                    declare=[self.queue],
                )

    def worker(self) -> "Worker":
        return Worker(self.connect(), self.queue)

    @property
    def waiting(self) -> int:
        """How many messages are in the queue."""
        count = self.client.llen(self.queue.name)
        assert isinstance(count, int)
        return count

    @property
    def unacked(self) -> int:
        """How many messages are delivered and not settled, as both of its keys say."""
        count = self.client.hlen(self.unacked_key)
        assert count == self.client.zcard(self.index_key)
        assert isinstance(count, int)
        return count

    def close(self) -> None:
        with suppress(*FAILURES):
            # What is owed for messages that the test has left would be told of at the end.
            self.worker().stop()
        for connection in self._connections:
            connection.release()
        self.client.close()


class Worker:
    """A consumer that holds what it gets."""

    def __init__(self, connection: kombu.Connection, queue: Queue) -> None:
        self.connection = connection
        self.messages: list[Any] = []
        consumer = connection.Consumer([queue], on_message=self.messages.append)
        consumer.consume()

    def receive(self, count: int) -> list[Any]:
        """So many messages; the worker forgets them."""
        self.drain_until(lambda: len(self.messages) >= count, what=f"{count} messages")
        received, self.messages[:] = list(self.messages), []
        return received

    def drain_until(self, check: Callable[[], object], *, what: str) -> None:
        def drained() -> bool:
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=0.05)
            return bool(check())

        eventually(drained, what=what)

    def lose_link(self) -> None:
        """What Celery does when its link is lost."""
        self.connection.collect(socket_timeout=5)
        self.connection.close()

    def stop(self) -> None:
        self.connection.close()


@pytest.fixture
def broker(redis_server: RedisServer, namespace: str) -> Iterator[Broker]:
    broker = Broker(redis_server, namespace)
    yield broker
    broker.close()


@pytest.fixture
def own_broker(own_redis: RedisServer, namespace: str) -> Iterator[Broker]:
    """On a Redis that the test may kill."""
    broker = Broker(own_redis, namespace)
    yield broker
    broker.close()


# A message that is held when the link is lost


def test_it_stays_unacknowledged_and_is_not_delivered_again(broker: Broker) -> None:
    broker.send("a")
    first = broker.worker()
    [held] = first.receive(1)
    first.lose_link()
    second = broker.worker()
    broker.send("b")
    assert [message.payload for message in second.receive(1)] == ["b"]
    assert (broker.waiting, broker.unacked) == (0, 2)
    assert held.payload == "a"


def test_its_acknowledgement_reaches_redis_through_the_next_channel(broker: Broker) -> None:
    broker.send("a", "b")
    first = broker.worker()
    early, late = first.receive(2)
    first.lose_link()
    early.ack()
    assert broker.unacked == 2
    second = broker.worker()
    second.drain_until(lambda: broker.unacked == 1, what="what was owed")
    late.ack()
    assert (broker.waiting, broker.unacked) == (0, 0)


def test_it_is_put_back_once_when_it_is_rejected(broker: Broker) -> None:
    broker.send("requeued", "dropped")
    first = broker.worker()
    requeued, dropped = first.receive(2)
    first.lose_link()
    requeued.requeue()
    dropped.reject()
    second = broker.worker()
    [again] = second.receive(1)
    assert (again.payload, again.headers["redelivered"]) == ("requeued", True)
    assert (broker.waiting, broker.unacked) == (0, 1)
    again.ack()
    assert broker.unacked == 0


def test_it_survives_several_lost_links(broker: Broker) -> None:
    broker.send("a")
    worker = broker.worker()
    [held] = worker.receive(1)
    for _ in range(3):
        worker.lose_link()
        worker = broker.worker()
        broker.send("next")
        worker.receive(1)[0].ack()
    held.ack()
    assert (broker.waiting, broker.unacked) == (0, 0)


def test_it_goes_back_when_nobody_holds_it_any_more(broker: Broker) -> None:
    broker.send("a")
    first = broker.worker()
    held = first.receive(1)
    first.lose_link()
    held.clear()
    assert [message.payload for message in broker.worker().receive(1)] == ["a"]
    assert (broker.waiting, broker.unacked) == (0, 1)


def test_it_goes_back_when_the_worker_stops_in_order(broker: Broker) -> None:
    broker.send("a")
    first = broker.worker()
    held = first.receive(1)
    first.lose_link()
    second = broker.worker()
    broker.send("b")
    second.receive(1)[0].ack()
    assert (broker.waiting, broker.unacked) == (0, 1)
    second.stop()
    assert (broker.waiting, broker.unacked) == (1, 0)
    held[0].ack()
    assert broker.waiting == 1


def test_the_end_of_a_channel_that_only_sends_says_nothing_about_it(broker: Broker) -> None:
    broker.send("a")
    first = broker.worker()
    [held] = first.receive(1)
    first.lose_link()
    second = broker.worker()
    broker.send("b")
    second.receive(1)
    assert (broker.waiting, broker.unacked) == (0, 2)
    held.ack()
    assert broker.unacked == 1


# A message whose worker keeps its link


def test_it_goes_back_when_the_worker_stops(broker: Broker) -> None:
    broker.send("a", "b")
    worker = broker.worker()
    done, _ = worker.receive(2)
    done.ack()
    worker.stop()
    assert (broker.waiting, broker.unacked) == (1, 0)


def test_it_comes_back_after_the_visibility_timeout_when_its_worker_is_killed(
    broker: Broker,
) -> None:
    broker.send("a")
    code = f"""
import os
from queue_run.broker.redis_transport import BrokerConnection
options = {broker._options!r}
connection = BrokerConnection({broker.server.url!r}, transport_options=options)
queue = connection.SimpleQueue({broker.queue.name!r})
queue.get(timeout=60)
os._exit(9)
"""
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT)
    assert ended.returncode == 9
    assert (broker.waiting, broker.unacked) == (0, 1)
    broker._options["visibility_timeout"] = 1
    assert [message.payload for message in broker.worker().receive(1)] == ["a"]


# Redis does not answer


def test_what_is_settled_while_redis_is_away_is_done_when_it_is_back(own_broker: Broker) -> None:
    own_broker.send("acknowledged", "requeued", "held")
    first = own_broker.worker()
    acknowledged, requeued, held = first.receive(3)
    own_broker.server.kill()
    # The channel has not noticed.
    acknowledged.ack()
    first.lose_link()
    # The channel is closed.
    requeued.requeue()
    own_broker.server.start()
    assert own_broker.unacked == 3
    assert [message.payload for message in own_broker.worker().receive(1)] == ["requeued"]
    assert (own_broker.waiting, own_broker.unacked) == (0, 2)
    held.ack()
    assert own_broker.unacked == 1


def test_a_message_that_cannot_be_noted_as_unacknowledged_is_not_lost(broker: Broker) -> None:
    broker.client.set(broker.unacked_key, "not a hash")
    broker.send("a")
    first = broker.worker()
    with pytest.raises(first.connection.connection_errors, match="WRONGTYPE"):
        first.drain_until(lambda: False, what="the failure")
    assert broker.waiting == 1
    first.lose_link()
    broker.client.delete(broker.unacked_key)
    [again] = broker.worker().receive(1)
    assert again.payload == "a"
    assert (broker.waiting, broker.unacked) == (0, 1)
    again.ack()
    assert broker.unacked == 0


def test_an_acknowledgement_that_redis_refuses_is_made_later(broker: Broker) -> None:
    broker.send("a", "b")
    worker = broker.worker()
    refused, taken = worker.receive(2)
    kept = f"{broker.unacked_key}.kept"
    broker.client.rename(broker.unacked_key, kept)
    broker.client.set(broker.unacked_key, "no hash")
    refused.ack()
    broker.client.rename(kept, broker.unacked_key)
    assert broker.client.hlen(broker.unacked_key) == 2
    # What Redis has answered to that one is no answer to this one.
    taken.ack()
    assert broker.client.hlen(broker.unacked_key) == 1
    worker.lose_link()
    broker.worker()
    assert broker.unacked == 0


def test_an_acknowledgement_reaches_redis_though_its_link_was_closed(broker: Broker) -> None:
    broker.send("a", "b")
    first, second = broker.worker().receive(2)
    first.ack()
    links = [each["id"] for each in broker.client.client_list() if each["cmd"] == "zrem"]
    assert links
    for link in links:
        broker.client.client_kill_filter(_id=link)
    second.ack()
    assert broker.unacked == 0


def test_the_threads_of_a_pool_settle_their_messages_side_by_side(broker: Broker) -> None:
    broker.send(*map(str, range(200)))
    messages = broker.worker().receive(200)
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda message: message.ack(), messages))
    assert (broker.waiting, broker.unacked) == (0, 0)


def test_a_worker_that_stops_while_redis_is_away_says_what_it_leaves(
    own_broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    own_broker.send("a")
    worker = own_broker.worker()
    worker.receive(1)
    own_broker.server.kill()
    with caplog.at_level(logging.ERROR, logger="queue_run.broker.redis_transport"):
        worker.stop()
    assert "the visibility timeout brings them back" in caplog.text
    own_broker.server.start()
    assert own_broker.unacked == 1


def test_a_process_says_what_it_still_owes_when_it_ends(broker: Broker) -> None:
    broker.send("a", "b")
    code = f"""
from queue_run.broker.redis_transport import BrokerConnection
connection = BrokerConnection({broker.server.url!r}, transport_options={broker._options!r})
queue = connection.SimpleQueue({broker.queue.name!r})
held = [queue.get(timeout=60) for _ in range(2)]
connection.collect()
held[0].ack()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "2 messages unsettled: the visibility timeout brings them back" in ended.stderr
    assert broker.unacked == 2


# What it costs


def test_a_channel_makes_one_client_for_all_its_commands(broker: Broker) -> None:
    channel: Any = broker.connect().default_channel
    with channel.conn_or_acquire() as one, channel.conn_or_acquire() as other:
        assert one is other
    channel._after_fork()
    with channel.conn_or_acquire() as new:
        assert new is not one
        assert new.ping()


# The connections of a Celery application


def transport_of(broker_url: str) -> Any:
    return create_celery(Settings(broker_url=broker_url)).connection_for_write().transport


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "rediss://redis.example:6379/0",
        "redis+socket:///run/redis.sock",
        "unix:///run/redis.sock",
    ],
)
def test_a_broker_on_redis_gets_this_transport(url: str) -> None:
    assert type(transport_of(url)) is RedisTransport


def test_another_broker_gets_its_own() -> None:
    assert isinstance(transport_of("amqp://rabbit.example"), amqp_transport.AmqpTransport)
    assert type(transport_of("sentinel://redis.example")) is kombu_redis.SentinelTransport


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:secret@redis.example:6380/3",
        "rediss://:secret@redis.example/2",
        "rediss://redis.example/2?ssl_cert_reqs=required&ssl_ca_certs=/etc/ca.pem",
        "redis+socket://:secret@/run/redis.sock?virtual_host=5",
    ],
)
def test_a_url_means_what_it_means_to_kombu(url: str) -> None:
    ours = create_celery(Settings(broker_url=url)).connection_for_read()
    stock = kombu.Connection(url)
    assert ours.as_uri(include_password=True) == stock.as_uri(include_password=True)
    assert ours.ssl == stock.ssl
    assert ours.clone().info()["transport"] == stock.info()["transport"]


def test_tls_stays_on_without_options_in_the_url() -> None:
    connection = create_celery(Settings(broker_url="rediss://redis.example")).connection_for_write()
    assert connection.ssl == {"ssl_cert_reqs": ssl.CERT_NONE}


def test_an_application_consumes_and_sends_through_it(redis_server: RedisServer) -> None:
    app = create_celery(Settings(redis_url=redis_server.url))
    with app.connection_for_read() as reader, app.pool.acquire() as writer:
        assert isinstance(reader.default_channel, RedisChannel)
        channel: Any = writer.default_channel  # type: ignore[attr-defined]
        assert isinstance(channel, RedisChannel)
    app.close()


def test_who_takes_no_acknowledged_message_looks_for_none_of_dead_workers(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    monkeypatch.setattr(
        kombu_redis.QoS, "restore_visible", lambda qos, *_: looked.append(qos.channel)
    )
    requests = Queue(f"{broker.queue.name}.requests", no_ack=True)
    workers = [Worker(broker.connect(), queue) for queue in (requests, broker.queue)]
    channels: list[Any] = [worker.connection.default_channel for worker in workers]
    for channel in channels:
        channel.qos.restore_visible()
    assert looked == channels[1:]


# A link that breaks before the answer to a question for messages is read


def asked(broker: Broker, before: Callable[[Any], None] = lambda channel: None) -> Worker:
    """A worker that has asked for a message, and not looked at the answer."""
    worker = broker.worker()
    channel: Any = worker.connection.default_channel
    before(channel)
    transport: Any = worker.connection.transport
    transport.cycle.on_poll_start()
    assert channel._in_poll
    return worker


@pytest.mark.parametrize("collected", [True, False])
def test_what_was_taken_and_not_heard_comes_back(broker: Broker, collected: bool) -> None:
    broker.send("text")
    worker = asked(broker)
    eventually(lambda: broker.unacked, what="the message to be taken")
    if collected:
        worker.lose_link()
        worker = broker.worker()
    else:
        channel: Any = worker.connection.default_channel
        channel.client.connection.disconnect()
        channel.qos.restore_visible()
    [message] = worker.receive(1)
    assert message.payload == "text"
    message.ack()
    assert (broker.waiting, broker.unacked) == (0, 0)


def test_a_question_that_comes_after_it_was_given_up_takes_nothing(broker: Broker) -> None:
    commands: list[Any] = []

    def hold_back(channel: Any) -> None:
        def ask(*command: Any) -> None:
            commands.append(command)
            channel._in_poll = channel.client.connection

        channel._ask = ask

    worker = asked(broker, hold_back)
    worker.lose_link()
    worker = broker.worker()
    broker.send("text")
    [late] = commands
    client: Any = broker.client
    assert client.execute_command(*late) is None
    assert (broker.waiting, broker.unacked) == (1, 0)
    [message] = worker.receive(1)
    message.ack()


def test_what_was_heard_is_not_put_back(broker: Broker) -> None:
    broker.send("text")
    worker = broker.worker()
    [message] = worker.receive(1)
    worker.lose_link()
    worker = broker.worker()
    assert (broker.waiting, broker.unacked) == (0, 1)
    message.ack()
    assert (broker.waiting, broker.unacked) == (0, 0)


def test_a_full_redis_says_what_was_not_heard(own_broker: Broker) -> None:
    own_broker.send("text")
    worker = asked(own_broker)
    eventually(lambda: own_broker.unacked, what="the message to be taken")
    own_broker.client.config_set("maxmemory", 1)
    worker.lose_link()
    [message] = own_broker.worker().receive(1)
    message.ack()
    assert (own_broker.waiting, own_broker.unacked) == (0, 0)


def test_a_binding_is_refreshed_as_kombu_does_it(redis_server: RedisServer, namespace: str) -> None:
    ours = load("broker/refresh_binding")
    kombus: str = kombu_redis.REFRESH_BINDING  # type: ignore[attr-defined]
    for what, given in (("KEYS", ours.keys), ("ARGV", ours.arguments)):
        numbers = {int(number) for number in re.findall(rf"{what}\[(\d+)\]", kombus)}
        assert numbers == set(range(1, len(given.names) + 1))
    found = []
    with redis_server.client() as client:
        for name, text in (("kombu", kombus), ("ours", ours.text)):
            keys = [f"{namespace}:{name}:bindings", f"{namespace}:{name}:deadlines"]
            # The later one counts.
            for lasts in (600_000, 60_000):
                client.eval(text, 2, *keys, "member", "exchange", lasts)
            [(exchange, deadline)] = client.zrange(keys[1], 0, -1, withscores=True)
            ahead = deadline - client.time()[0] * 1000
            found.append((client.smembers(keys[0]), exchange, round(ahead / 100_000)))
    assert found[0] == found[1]
    assert found[0][2] == 6

"""What kombu promises of a transport, kept by the one that Celery has here for Redis.

Our channel replaces how kombu's takes, settles, puts back and publishes messages. These are kombu's
own promises about that, which Celery and applications rely on, on every Redis it runs on.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import kombu
import pytest
import redis
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from queue_run.broker.redis_transport import BrokerConnection
from queue_run.errors import SettingsError
from tests.waiting import eventually

#: Seconds for which a connection looks for something to hand over, once.
LOOK = 0.05


class Broker:
    """One connection, whose queues and exchanges are this test's own."""

    def __init__(self, url: str, namespace: str) -> None:
        self.redis = redis.Redis.from_url(url)
        self.namespace = namespace
        options = {
            "unacked_key": f"{namespace}.unacked",
            "unacked_index_key": f"{namespace}.unacked_index",
            "unacked_mutex_key": f"{namespace}.unacked_mutex",
            "unreadable_key": f"{namespace}:unreadable",
        }
        self.connection = BrokerConnection(url, transport_options=options)
        # Another one sends, as another process would.
        self._sending = BrokerConnection(url, transport_options=options)
        self.producer: Any = self._sending.Producer()

    def exchange(self, kind: str) -> Exchange:
        return Exchange(f"{self.namespace}.{kind}", type=kind)

    def queue(self, name: str = "queue", exchange: Exchange | None = None, **options: Any) -> Queue:
        key = f"{self.namespace}.{name}"
        options = {"routing_key": key, **options}
        return Queue(key, self.exchange("direct") if exchange is None else exchange, **options)

    def declare(self, *queues: Queue) -> None:
        for queue in queues:
            queue(self.connection.default_channel).declare()

    def send(self, body: Any, to: Queue | Exchange, **options: Any) -> None:
        if isinstance(to, Queue):
            options = {"routing_key": to.routing_key, **options}
        exchange = to.exchange if isinstance(to, Queue) else to
        # What kind of exchange it is, a transport knows from its declaration.
        self.producer.publish(body, exchange=exchange, **{"declare": [exchange], **options})

    def get(self, queue: Queue, **options: Any) -> Any:
        return queue(self.connection.default_channel).get(**options)

    def unacked(self) -> int:
        found: Any = self.redis.hlen(f"{self.namespace}.unacked")
        assert found == self.redis.zcard(f"{self.namespace}.unacked_index")
        return int(found)

    def close(self) -> None:
        self.connection.release()
        self._sending.release()
        self.redis.close()


class Taker:
    """Somebody who consumes, and keeps what comes; acknowledged at once, unless told otherwise."""

    def __init__(
        self,
        broker: Broker,
        *queues: Queue,
        channel: Any = None,
        holds: bool = False,
        no_ack: bool = False,
    ) -> None:
        self._broker = broker
        self._settles = not (holds or no_ack)
        self.messages: list[Any] = []
        self.channel: Any = broker.connection.default_channel if channel is None else channel
        self.consumer = kombu.Consumer(
            self.channel, queues, on_message=self._received, no_ack=no_ack
        )
        self.consumer.consume()

    def _received(self, message: Any) -> None:
        self.messages.append(message)
        if self._settles:
            message.ack()

    @property
    def bodies(self) -> list[Any]:
        return [message.payload for message in self.messages]

    def look(self) -> None:
        with suppress(TimeoutError):
            self._broker.connection.drain_events(timeout=LOOK)

    def until(self, check: Callable[[], Any], what: str) -> None:
        def looked() -> Any:
            self.look()
            return check()

        eventually(looked, what=what)

    def take(self, count: int) -> list[Any]:
        self.until(lambda: len(self.messages) >= count, f"{count} messages")
        return self.bodies

    def wait_for_bell(self) -> None:
        self.until(lambda: self.channel._waits and self.channel._in_poll, "the wait")


@pytest.fixture
def broker(redis_url: str, namespace: str) -> Iterator[Broker]:
    broker = Broker(redis_url, namespace)
    yield broker
    broker.close()


# Connections


def test_a_connection_is_opened_and_closed_again(broker: Broker) -> None:
    broker.connection.connect()
    assert broker.connection.connected
    broker.connection.release()
    assert not broker.connection.connected


def test_a_broker_that_is_not_there_is_an_error_that_kombu_knows(namespace: str) -> None:
    with BrokerConnection("redis://127.0.0.1:1/0") as connection:
        with pytest.raises(connection.recoverable_connection_errors):
            connection.connect()
        with pytest.raises(OperationalError):
            connection.ensure_connection(max_retries=1, interval_start=0)


def test_a_prefix_for_all_keys_is_refused_in_one_sentence(redis_url: str) -> None:
    with (
        BrokerConnection(redis_url, transport_options={"global_keyprefix": "mine:"}) as connection,
        pytest.raises(SettingsError, match="set QUEUE_RUN_NAMESPACE in its place"),
    ):
        connection.ensure_connection(max_retries=1)


# Publishing and consuming


def test_a_message_comes_as_it_was_published(broker: Broker) -> None:
    queue = broker.queue()
    taker = Taker(broker, queue)
    broker.send({"hello": "wörld"}, queue, headers={"k": "v"}, correlation_id="c")
    assert taker.take(1) == [{"hello": "wörld"}]
    [message] = taker.messages
    assert message.headers == {"k": "v"}
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert message.properties["correlation_id"] == "c"
    assert message.delivery_info["routing_key"] == queue.routing_key
    assert message.delivery_info["exchange"] == queue.exchange.name
    assert broker.unacked() == 0


def test_an_empty_queue_is_waited_for_until_the_timeout(broker: Broker) -> None:
    Taker(broker, broker.queue())
    with pytest.raises(TimeoutError):
        broker.connection.drain_events(timeout=LOOK)


def test_messages_come_in_the_order_in_which_they_were_published(broker: Broker) -> None:
    queue = broker.queue()
    taker = Taker(broker, queue)
    for number in range(20):
        broker.send(number, queue)
    assert taker.take(20) == list(range(20))


def test_what_is_published_in_a_batch_comes_whole(broker: Broker) -> None:
    queue = broker.queue()
    taker = Taker(broker, queue)
    with broker.producer.batch():
        for number in range(3):
            broker.send(number, queue)
    assert taker.take(3) == [0, 1, 2]


def test_a_lower_number_is_a_higher_priority(broker: Broker) -> None:
    queue = broker.queue(max_priority=10)
    broker.declare(queue)
    for body, priority in (("first", 6), ("urgent", 0), ("second", 6), ("soon", 3)):
        broker.send(body, queue, priority=priority)
    assert Taker(broker, queue).take(4) == ["urgent", "soon", "first", "second"]


def test_what_is_put_back_keeps_its_priority(broker: Broker) -> None:
    queue = broker.queue(max_priority=10)
    broker.declare(queue)
    for body, priority in (("first", 6), ("soon", 3), ("second", 6)):
        broker.send(body, queue, priority=priority)
    holder = Taker(broker, queue, holds=True)
    holder.take(3)
    holder.consumer.cancel()
    for message in holder.messages:
        message.requeue()
    broker.send("urgent", queue, priority=0)
    assert Taker(broker, queue).take(4) == ["urgent", "soon", "first", "second"]


# Exchanges


def test_a_direct_exchange_gives_to_the_queues_of_a_routing_key(broker: Broker) -> None:
    one, other = broker.queue("one"), broker.queue("other")
    broker.declare(one, other)
    broker.send("for one", one)
    broker.send("for nobody", one.exchange, routing_key=f"{broker.namespace}.nobody")
    assert broker.get(one, no_ack=True).payload == "for one"
    assert broker.get(one) is None
    assert broker.get(other) is None


def test_a_topic_exchange_gives_to_the_queues_whose_pattern_fits(broker: Broker) -> None:
    topics = broker.exchange("topic")
    queues = {
        pattern: broker.queue(f"of {pattern}", topics, routing_key=pattern)
        for pattern in ("t.*", "t.#", "t")
    }
    broker.declare(*queues.values())
    broker.send("1", topics, routing_key="t.1")
    found = {pattern: broker.get(queue, no_ack=True) for pattern, queue in queues.items()}
    assert {pattern for pattern, message in found.items() if message is not None} == {"t.*", "t.#"}


def test_a_fanout_exchange_gives_to_all_who_listen(broker: Broker) -> None:
    everybody = broker.exchange("fanout")
    takers = [
        Taker(
            broker,
            broker.queue(f"listener {n}", everybody, routing_key=""),
            channel=broker.connection.channel(),
        )
        for n in range(2)
    ]

    def all_listen() -> bool:
        return all(taker.channel.subclient.patterns for taker in takers)

    takers[0].until(all_listen, "all to listen")
    broker.send("news", everybody)
    takers[0].until(lambda: all(taker.messages for taker in takers), "the news")
    assert [taker.bodies for taker in takers] == [["news"], ["news"]]


def test_an_exchange_without_queues_loses_what_it_is_given(broker: Broker) -> None:
    nowhere = broker.exchange("topic")
    broker.send("lost", nowhere, routing_key="t")
    assert broker.redis.keys(f"{broker.namespace}*") == []


# Simple queues, and single messages


@pytest.mark.parametrize("kind", ["SimpleQueue", "SimpleBuffer"])
def test_a_simple_queue_gives_back_what_was_put_into_it(broker: Broker, kind: str) -> None:
    with closing(getattr(broker.connection, kind)(f"{broker.namespace}.simple")) as simple:
        simple.put({"hello": "world"}, headers={"k": "v"})
        message = simple.get(timeout=10)
        assert (message.payload, message.headers) == ({"hello": "world"}, {"k": "v"})
        message.ack()
        with pytest.raises(simple.Empty):
            simple.get_nowait()
    assert broker.unacked() == 0


def test_a_single_message_stays_unacknowledged_until_it_is_settled(broker: Broker) -> None:
    queue = broker.queue()
    broker.declare(queue)
    assert broker.get(queue) is None
    broker.send("text", queue)
    message = broker.get(queue)
    assert (message.payload, broker.unacked()) == ("text", 1)
    message.ack()
    assert broker.unacked() == 0
    assert broker.get(queue) is None


def test_a_rejected_message_is_gone(broker: Broker) -> None:
    queue = broker.queue()
    broker.declare(queue)
    broker.send("text", queue)
    broker.get(queue).reject()
    assert broker.get(queue) is None
    assert broker.unacked() == 0


@pytest.mark.parametrize("how", [lambda m: m.requeue(), lambda m: m.reject(requeue=True)])
def test_a_message_that_is_put_back_comes_again(
    broker: Broker, how: Callable[[Any], object]
) -> None:
    queue = broker.queue()
    broker.declare(queue)
    broker.send("text", queue)
    how(broker.get(queue))
    again = broker.get(queue)
    assert again.payload == "text"
    assert again.properties["delivery_info"]["redelivered"]
    again.ack()
    assert broker.unacked() == 0


# Queues


def test_a_queue_is_counted_emptied_and_deleted(broker: Broker) -> None:
    queue = broker.queue(max_priority=10)
    broker.declare(queue)
    for priority in (0, 3, 9):
        broker.send("text", queue, priority=priority)
    bound: Any = queue(broker.connection.default_channel)
    assert bound.queue_declare(passive=True).message_count == 3
    assert bound.purge() == 3
    assert bound.queue_declare().message_count == 0
    broker.send("text", queue)
    bound.delete()
    assert broker.get(queue) is None
    # It is bound to its exchange no more.
    broker.send("text", queue)
    assert broker.get(queue) is None


def test_a_queue_that_expires_lives_on_with_each_message(broker: Broker) -> None:
    queue = broker.queue(expires=60)
    channel = broker.connection.channel()
    queue(channel).declare()
    kombu.Producer(channel).publish(1, exchange=queue.exchange, routing_key=queue.routing_key)
    left: Any = broker.redis.pttl(queue.name)
    assert 0 < left <= 60_000


# Consumers that end, and begin again


@pytest.mark.parametrize("no_ack", [False, True])
def test_a_consumer_that_is_cancelled_while_it_waits_begins_again(
    broker: Broker, no_ack: bool
) -> None:
    queue = broker.queue()
    first = Taker(broker, queue)
    first.wait_for_bell()
    first.consumer.cancel()
    # Its wait ends with the bell of this.
    broker.send(1, queue)
    second = Taker(broker, queue, no_ack=no_ack)
    assert second.take(1) == [1]
    broker.send(2, queue)
    assert second.take(2) == [1, 2]
    assert (first.messages, broker.unacked()) == ([], 0)
    assert broker.redis.llen(f"{broker.namespace}:unreadable") == 0


def test_what_was_asked_for_by_a_consumer_that_is_cancelled_is_not_lost(broker: Broker) -> None:
    queue = broker.queue()
    broker.declare(queue)
    broker.send(1, queue)
    first = Taker(broker, queue)
    transport: Any = broker.connection.transport
    transport.cycle.on_poll_start()
    eventually(broker.unacked, what="the message to be taken")
    first.consumer.cancel()
    second = Taker(broker, queue, no_ack=True)
    assert second.take(1) == [1]
    assert (first.messages, broker.unacked()) == ([], 0)


def test_a_consumer_may_be_cancelled_by_what_it_gets(broker: Broker) -> None:
    queue = broker.queue()
    taker = Taker(broker, queue)
    taker.consumer.on_message = lambda message: (message.ack(), taker.consumer.cancel())  # type: ignore[func-returns-value, assignment]
    taker.consumer.cancel()
    taker.consumer.consume()
    broker.send(1, queue)
    taker.until(lambda: not taker.channel.active_queues, "the end of the consumer")
    broker.send(2, queue)
    for _ in range(3):
        taker.look()
    assert broker.get(queue, no_ack=True).payload == 2


# Prefetch, and several channels


def test_no_more_come_than_the_prefetch_allows(broker: Broker) -> None:
    queue = broker.queue()
    taker = Taker(broker, queue, holds=True)
    taker.consumer.qos(prefetch_count=2)
    for number in range(3):
        broker.send(number, queue)
    assert taker.take(2) == [0, 1]
    for _ in range(3):
        taker.look()
    assert taker.bodies == [0, 1]
    taker.messages[0].ack()
    assert taker.take(3) == [0, 1, 2]


def test_the_channels_of_a_connection_are_read_side_by_side(broker: Broker) -> None:
    queues = [broker.queue(f"queue {n}") for n in range(3)]
    takers = [
        Taker(broker, queue, channel=broker.connection.channel(), no_ack=n == 1)
        for n, queue in enumerate(queues)
    ]
    for number, queue in enumerate(queues):
        broker.send(number, queue)
    takers[0].until(lambda: all(taker.messages for taker in takers), "all messages")
    assert [taker.bodies for taker in takers] == [[0], [1], [2]]
    assert broker.unacked() == 0


def test_a_channel_that_is_closed_puts_back_its_own_messages_only(broker: Broker) -> None:
    one, other = broker.queue("one"), broker.queue("other")
    closing_one, staying = (
        Taker(broker, queue, channel=broker.connection.channel(), holds=True)
        for queue in (one, other)
    )
    broker.send("one", one)
    broker.send("other", other)
    closing_one.until(lambda: closing_one.messages and staying.messages, "both messages")
    closing_one.channel.close()
    assert broker.get(one, no_ack=True).payload == "one"
    assert (broker.get(other), broker.unacked()) == (None, 1)
    staying.messages[0].ack()
    assert broker.unacked() == 0

"""Messages that are taken and written down in one step, on a real Redis."""

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty
from typing import Any

import kombu
import pytest
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from queue_run.broker.redis_taking import MORE
from queue_run.broker.redis_transport import BrokerConnection
from queue_run.storage.late_pushes import ALSO_WHEN_FULL
from tests.processes import RedisServer
from tests.waiting import DEADLINE, eventually


class Broker:
    """A queue on a Redis; whoever waits for it learns of messages by its bell, or not at all."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.server = server
        self.client = server.client()
        self.namespace = namespace
        self.exchange = Exchange(namespace)
        self.queue = self.queue_named("jobs")
        self._options = {
            "visibility_timeout": 3600,
            "unacked_key": f"{namespace}.unacked",
            "unacked_index_key": f"{namespace}.unacked_index",
            "unacked_mutex_key": f"{namespace}.unacked_mutex",
            "unreadable_key": f"{namespace}:unreadable",
        }
        self._connections: list[kombu.Connection] = []

    def queue_named(self, name: str, **options: Any) -> Queue:
        key = f"{self.namespace}.{name}"
        return Queue(key, self.exchange, routing_key=key, **options)

    def connect(self, *, stock: bool = False) -> kombu.Connection:
        kind = kombu.Connection if stock else BrokerConnection
        connection = kind(self.server.url, transport_options=self._options)
        self._connections.append(connection)
        return connection

    def send(
        self, body: Any, queue: Queue | None = None, *, stock: bool = False, **to: Any
    ) -> None:
        target = self.queue if queue is None else queue
        with self.connect(stock=stock) as connection:
            connection.Producer().publish(
                body,
                exchange=target.exchange,
                routing_key=target.routing_key,
                declare=[target],
                **to,
            )

    @property
    def unacked(self) -> dict[Any, Any]:
        found = self.client.hgetall(f"{self.namespace}.unacked")
        assert isinstance(found, dict)
        assert self.client.zcard(f"{self.namespace}.unacked_index") == len(found)
        return found

    @property
    def unreadable(self) -> list[dict[str, Any]]:
        found = self.client.lrange(f"{self.namespace}:unreadable", 0, -1)
        assert isinstance(found, list)
        return [json.loads(each) for each in found]

    def close(self) -> None:
        for connection in self._connections:
            connection.release()
        self.client.close()


class Worker:
    """A consumer that holds what it gets."""

    def __init__(self, broker: Broker, *queues: Queue, waits: float = 10 * DEADLINE) -> None:
        self.connection = broker.connect()
        channel: Any = self.connection.channel()
        self.channel = channel
        self.channel.brpop_timeout = waits
        self.messages: list[Any] = []
        self.consumer = kombu.Consumer(
            self.channel, queues or [broker.queue], on_message=self.messages.append
        )
        self.consumer.consume()

    def receive(self) -> Any:
        eventually(self.drained, what="a message")
        return self.messages.pop(0)

    def wait(self) -> None:
        """Until it waits for a bell."""
        eventually(lambda: self.drained() or (self.channel._waits), what="the wait")
        assert not self.messages

    def drained(self) -> bool:
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=0.05)
        return bool(self.messages)


@pytest.fixture
def broker(redis_server: RedisServer, namespace: str) -> Iterator[Broker]:
    broker = Broker(redis_server, namespace)
    yield broker
    broker.close()


def test_a_message_is_written_down_before_its_taker_has_read_it(broker: Broker) -> None:
    broker.send({"n": 1})
    dead = Worker(broker)
    # It has asked, and dies.
    transport: Any = dead.connection.transport
    transport.cycle.on_poll_start()
    [tag] = eventually(lambda: broker.unacked, what="the message to be taken")
    assert broker.client.llen(broker.queue.name) == 0

    Worker(broker).channel.qos.restore_by_tag(tag)
    message = Worker(broker).receive()
    assert (message.payload, message.delivery_tag) == ({"n": 1}, tag)
    assert message.properties["delivery_info"]["redelivered"]


def test_a_message_that_is_acknowledged_is_forgotten(broker: Broker) -> None:
    worker = Worker(broker)
    broker.send("text")
    message = worker.receive()
    assert list(broker.unacked) == [message.delivery_tag]
    message.ack()
    assert broker.unacked == {}


def test_who_waits_learns_of_a_message_by_the_bell(broker: Broker) -> None:
    worker = Worker(broker)
    worker.wait()
    broker.send("one")
    assert worker.receive().payload == "one"
    worker.wait()
    broker.send("two")
    assert worker.receive().payload == "two"


def test_who_waits_learns_of_a_message_that_is_put_back(broker: Broker) -> None:
    first = Worker(broker)
    broker.send("text")
    message = first.receive()
    second = Worker(broker)
    second.wait()
    message.requeue()
    assert second.receive().payload == "text"


def test_a_message_of_a_producer_that_rings_no_bell_is_found(broker: Broker) -> None:
    worker = Worker(broker, waits=1)
    worker.wait()
    broker.send("text", stock=True)
    assert worker.receive().payload == "text"


def test_queues_with_and_without_acknowledgements_are_read_side_by_side(broker: Broker) -> None:
    requests = broker.queue_named("requests", no_ack=True)
    worker = Worker(broker, broker.queue, requests)
    for n in range(3):
        worker.wait()
        broker.send({"request": n}, requests, delivery_mode=1)
        assert worker.receive().payload == {"request": n}
        broker.send({"job": n})
        assert worker.receive().payload == {"job": n}
    assert len(broker.unacked) == 3


def test_a_message_of_a_queue_without_acknowledgements_costs_none(broker: Broker) -> None:
    requests = broker.queue_named("requests", no_ack=True)
    worker = Worker(broker, requests)
    broker.send("text", requests, delivery_mode=1)
    message = worker.receive()
    before = broker.client.info("commandstats")
    message.ack()
    after = broker.client.info("commandstats")
    for command in ("cmdstat_zrem", "cmdstat_hdel"):
        assert after.get(command) == before.get(command)


def test_what_may_be_lost_is_sent_again_after_its_link_broke(broker: Broker) -> None:
    connection = broker.connect()
    producer = connection.Producer()
    for text in ("one", "two", "three"):
        try:
            producer.publish(text, exchange="", routing_key=broker.queue.name, delivery_mode=1)
        except connection.connection_errors:
            assert text == "two"
        if text == "one":
            broker.client.client_kill_filter(_type="normal", skipme=True)
    assert broker.client.llen(broker.queue.name) == 2


def test_a_busy_queue_does_not_keep_the_others_from_their_turn(broker: Broker) -> None:
    requests = broker.queue_named("requests", no_ack=True)
    for n in range(10):
        broker.send(n)
    for n in range(3):
        broker.send(f"request {n}", requests, delivery_mode=1)
    worker = Worker(broker, broker.queue, requests)
    first = [worker.receive().payload for _ in range(6)]
    assert [each for each in first if isinstance(each, str)] == [f"request {n}" for n in range(3)]


def test_a_bell_is_short_and_does_not_last(broker: Broker) -> None:
    for n in range(30):
        broker.send(n)
    bell = f"{broker.queue.name}.bell"
    assert broker.client.llen(bell) == 10
    assert 0 < int(broker.client.pttl(bell)) <= 10_000


def test_nobody_rings_for_what_may_be_lost(broker: Broker) -> None:
    broker.send("text", delivery_mode=1)
    assert broker.client.llen(broker.queue.name) == 1
    assert not broker.client.exists(f"{broker.queue.name}.bell")


def test_odd_messages_are_written_down_as_they_are(broker: Broker) -> None:
    body = {"text": 'é"\\ ☃', "big": 2**70, "float": 0.1, "empty": [], "none": None}
    broker.send(body, headers={"odd": {"delivery_tag": 'x"', "list": []}})
    worker = Worker(broker)
    message = worker.receive()
    [tag] = broker.unacked
    assert message.payload == body
    message.requeue()
    again = worker.receive()
    assert (again.payload, again.delivery_tag) == (body, tag)
    assert again.headers["odd"] == {"delivery_tag": 'x"', "list": []}


# What cannot be read


def message(**changes: Any) -> str:
    """A message as kombu writes it, with these changes; a field that is `...` is left out."""
    properties = {
        "delivery_tag": "a tag",
        "delivery_info": {"exchange": "e", "routing_key": "r"},
        "body_encoding": "base64",
        **changes.pop("properties", {}),
    }
    whole = {
        "body": base64.b64encode(b"[[], {}, {}]").decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {name: each for name, each in properties.items() if each is not ...},
        **changes,
    }
    return json.dumps({name: each for name, each in whole.items() if each is not ...})


UNREADABLE: dict[str, str | bytes] = {
    "no JSON": "no JSON",
    "half of JSON": message()[:-1],
    "empty": "",
    "a number": "5",
    "null": "null",
    "a list": "[1, 2]",
    "a text": '"text"',
    "an object of something else": '{"id": 7}',
    "no properties": '{"body": "", "headers": {}}',
    "properties that are none": '{"body": "", "headers": {}, "properties": 5}',
    "no tag": message(properties={"delivery_tag": ...}),
    "no encoding of ours": message(properties={"body_encoding": "rot13"}),
    "a body that is no base64": message(body="a"),
    "a body that is no text": message(body={"a": 1}),
    "no UTF-8": b'{"body": "\xff\xfe"}',
    "no UTF-8 in a good message": message(headers={"x": "~"}).encode().replace(b"~", b"\xff"),
    "deep": "[" * 100_000,
    "deep and whole": "[" * 5_000 + "]" * 5_000,
    "an object that kombu has no type for": '{"__type__": "x", "__value__": 1}',
    "compressed in no way that we know": message(headers=5),
}
UNWRITABLE = {
    "a tag that is no text": message(properties={"delivery_tag": {}}),
    "a tag that is null": message(properties={"delivery_tag": None}),
}


@pytest.mark.parametrize("no_ack", [False, True], ids=["acknowledged", "not acknowledged"])
@pytest.mark.parametrize("data", UNREADABLE.values(), ids=list(UNREADABLE))
def test_a_message_that_cannot_be_read_is_set_aside_and_the_next_one_comes(
    broker: Broker, caplog: pytest.LogCaptureFixture, data: str | bytes, no_ack: bool
) -> None:
    queue = broker.queue_named("requests", no_ack=True) if no_ack else broker.queue
    worker = Worker(broker, queue)
    broker.client.lpush(queue.name, data)
    broker.send("text", queue)
    assert worker.receive().payload == "text"
    assert len(broker.unacked) == (0 if no_ack else 1)
    [entry] = broker.unreadable
    assert entry["from"] == queue.name
    assert entry["length"] == len(data)
    text = data.decode(errors="backslashreplace") if isinstance(data, bytes) else data
    assert entry["data"] == text[: 16 * 1024]
    [line] = [each for each in caplog.messages if "cannot be read" in each]
    assert queue.name in line
    assert len(line) < 1000


@pytest.mark.parametrize("data", UNWRITABLE.values(), ids=list(UNWRITABLE))
def test_a_message_that_cannot_be_written_down_does_not_stay_in_its_queue(
    broker: Broker, data: str
) -> None:
    worker = Worker(broker)
    broker.client.lpush(broker.queue.name, data)
    broker.send("text")
    eventually(lambda: worker.drained() and not broker.client.llen(broker.queue.name), what="both")
    assert worker.messages[-1].payload == "text"


def test_a_message_that_fails_its_consumer_is_set_aside(broker: Broker) -> None:
    worker = Worker(broker)

    def fail(message: Any) -> None:
        if message.payload == "bad":
            raise TypeError("no task")
        worker.messages.append(message)

    worker.consumer.on_message = fail
    broker.send("bad")
    broker.send("good")
    assert worker.receive().payload == "good"
    [entry] = broker.unreadable
    assert entry["reason"] == "TypeError: no task"
    assert [json.loads(each)[0]["body"] for each in broker.unacked.values()] == [
        base64.b64encode(b"good").decode()
    ]
    # It counts as settled: the worker may take as many as before.
    assert len(worker.channel.qos._delivered) - len(worker.channel.qos._dirty) == 1


def test_a_link_that_is_lost_is_not_the_messages_fault(broker: Broker) -> None:
    worker = Worker(broker)

    def fail(_: Any) -> None:
        raise ConnectionError("lost")

    worker.consumer.on_message = fail
    broker.send("text")
    with pytest.raises(ConnectionError, match="lost"):
        worker.receive()
    assert broker.unreadable == []
    assert len(broker.unacked) == 1


def test_the_list_of_what_cannot_be_read_is_short(broker: Broker) -> None:
    worker = Worker(broker)
    with broker.client.pipeline() as pipe:
        for n in range(1010):
            pipe.lpush(broker.queue.name, f"bad {n}")
        pipe.execute()
    broker.send("text")
    assert worker.receive().payload == "text"
    found = broker.unreadable
    assert len(found) == 1000
    assert found[0]["data"] == "bad 1009"


@pytest.mark.parametrize(
    "data",
    ["no JSON", "5", "[]", '[5, "e", "r"]', '[{"properties": {}}, "e", "r"]', b"\xff", "[" * 9_999],
    ids=lambda data: repr(data[:20]),
)
def test_an_unacknowledged_message_that_cannot_be_read_does_not_keep_others_from_coming_back(
    broker: Broker, data: str | bytes
) -> None:
    broker.send("text")
    first = Worker(broker)
    first.receive()
    for tag in broker.unacked:
        broker.client.zadd(f"{broker.namespace}.unacked_index", {tag: 1})
    broker.client.hset(f"{broker.namespace}.unacked", "bad", data)
    broker.client.zadd(f"{broker.namespace}.unacked_index", {"bad": 0})
    second = Worker(broker)
    second.channel.qos.restore_visible(interval=1)
    assert second.receive().payload == "text"
    assert len(broker.unacked) == 1
    [entry] = broker.unreadable
    assert entry["from"] == f"{broker.namespace}.unacked"


def test_an_unacknowledged_message_of_a_queue_that_is_gone_is_set_aside(broker: Broker) -> None:
    broker.send("text")
    first = Worker(broker)
    first.receive()
    [tag] = broker.unacked
    broker.client.delete(f"_kombu.binding.{broker.namespace}")
    first.channel.qos.restore_by_tag(tag)
    [entry] = broker.unreadable
    assert "no queue takes" in entry["reason"]
    assert broker.unacked == {}


def test_an_entry_that_is_no_binding_does_not_keep_messages_from_their_queue(
    broker: Broker,
) -> None:
    worker = Worker(broker)
    broker.client.sadd(f"_kombu.binding.{broker.namespace}", "no binding")
    broker.send("text")
    message = worker.receive()
    message.requeue()
    assert worker.receive().payload == "text"


@pytest.mark.parametrize("data", ["5", "[]", '{"a": 1}', "no JSON"])
def test_remote_control_that_cannot_be_read_is_passed_over(
    broker: Broker, caplog: pytest.LogCaptureFixture, data: str
) -> None:
    control = Exchange(f"{broker.namespace}.control", type="fanout")
    worker = Worker(broker, Queue(f"{broker.namespace}.box", control))
    topic = f"/0.{control.name}"
    eventually(lambda: worker.drained() or broker.client.pubsub_numpat(), what="the subscription")
    eventually(lambda: broker.client.publish(topic, data), what="somebody who listens")
    with broker.connect() as connection:
        connection.Producer().publish("text", exchange=control, declare=[control])
    assert worker.receive().payload == "text"


@pytest.mark.parametrize("dies", [True, False])
def test_what_a_worker_held_comes_back_while_redis_is_full(
    own_redis: RedisServer, namespace: str, dies: bool
) -> None:
    broker = Broker(own_redis, namespace)
    broker.send("text")
    first, second = Worker(broker), Worker(broker)
    first.receive()
    if dies:
        for tag in broker.unacked:
            broker.client.zadd(f"{namespace}.unacked_index", {tag: 1})
        broker.client.config_set("maxmemory", "1")
        second.channel.qos.restore_visible(interval=1)
    else:
        broker.client.config_set("maxmemory", "1")
        first.channel.close()
    assert not broker.unacked
    assert second.receive().payload == "text"
    broker.close()


@pytest.fixture
def full(own_redis: RedisServer, namespace: str) -> Iterator[Broker]:
    """A broker that is full, with one message that waits."""
    broker = Broker(own_redis, namespace)
    broker.send("text")
    broker.client.config_set("maxmemory", "1")
    yield broker
    broker.close()


def test_a_full_redis_refuses_messages_whole(full: Broker) -> None:
    policy = {"max_retries": 1, "interval_start": 0}
    with pytest.raises(OperationalError, match="maxmemory"):
        full.send("more", retry=True, retry_policy=policy)
    assert full.client.llen(full.queue.name) == 1


def test_a_full_redis_takes_a_message_that_makes_room(full: Broker) -> None:
    worker = Worker(full)
    assert worker.receive().payload == "text"
    worker.wait()
    full.send("drain", headers={ALSO_WHEN_FULL: 1})
    message = worker.receive()
    assert message.payload == "drain"
    message.reject(requeue=True)
    assert worker.receive().payload == "drain"


def test_queues_of_a_full_redis_are_bound_counted_emptied_and_deleted(full: Broker) -> None:
    channel: Any = full.connect().channel()
    other = full.queue_named("other")(channel)
    other.declare()
    key = f"_kombu.binding.{full.namespace}"
    assert any(str(each).endswith(other.name) for each in full.client.smembers(key))
    queue = full.queue(channel)
    declared: Any = queue.queue_declare(passive=True)
    assert declared.message_count == 1
    assert queue.purge() == 1
    assert not full.client.exists(queue.name)
    other.delete()
    assert not any(str(each).endswith(other.name) for each in full.client.smembers(key))


def test_remote_control_is_answered_in_a_full_redis(full: Broker) -> None:
    """A question's answers go to a queue of its own, which expires."""
    asker = Worker(full, full.queue_named("answers", expires=10.0))
    with full.connect() as connection:
        # It has not declared the queue.
        connection.Producer().publish(
            "pong",
            exchange=full.namespace,
            routing_key=f"{full.namespace}.answers",
            headers={"ticket": "of the question"},
            delivery_mode=1,
        )
    assert asker.receive().payload == "pong"
    asker.channel.maybe_refresh_binding_expiry()


def test_what_was_got_from_a_full_redis_is_written_down(full: Broker) -> None:
    channel: Any = full.connect().channel()
    message = channel.basic_get(full.queue.name)
    assert list(full.unacked) == [message.delivery_tag]
    channel.basic_ack(message.delivery_tag)
    assert full.unacked == {}


def test_all_that_dead_workers_held_comes_back_while_redis_is_full(full: Broker) -> None:
    """As kombu asks for it: without a number."""
    first, second = Worker(full), Worker(full)
    first.receive()
    full.client.config_set("maxmemory", "0")
    for tag in full.unacked:
        full.client.zadd(f"{full.namespace}.unacked_index", {tag: 1})
    full.client.config_set("maxmemory", "1")
    second.channel.qos.restore_visible(num=None, interval=1)
    assert second.receive().payload == "text"


def test_a_worker_whose_loop_runs_jobs_takes_what_waits_behind_a_message_at_once(
    broker: Broker,
) -> None:
    requests = broker.queue_named("requests", no_ack=True)
    count = MORE + 3
    worker = Worker(broker, requests)
    worker.channel.takes_more = lambda: True
    for n in range(count):
        broker.send({"n": n}, requests)
    eventually(worker.drained, what="messages")
    assert [each.payload["n"] for each in worker.messages] == list(range(MORE + 1))
    eventually(lambda: worker.drained() and len(worker.messages) == count, what="the rest")
    assert [each.payload["n"] for each in worker.messages] == list(range(count))
    assert broker.unacked == {}


def test_one_among_them_that_cannot_be_read_holds_up_none(broker: Broker) -> None:
    requests = broker.queue_named("requests", no_ack=True)
    worker = Worker(broker, requests)
    worker.channel.takes_more = lambda: True
    broker.send({"n": 0}, requests)
    broker.client.lpush(requests.name, "no JSON")
    broker.send({"n": 1}, requests)
    eventually(lambda: worker.drained() and len(worker.messages) == 2, what="both messages")
    assert [each.payload["n"] for each in worker.messages] == [0, 1]
    assert [each["data"] for each in broker.unreadable] == ["no JSON"]


def test_what_has_come_may_be_read_before_the_loop_gets_to_it(broker: Broker) -> None:
    requests = broker.queue_named("requests", no_ack=True)
    worker = Worker(broker, requests)
    transport: Any = worker.connection.transport
    worker.channel.read_now()
    transport.cycle.on_poll_start()
    worker.channel.read_now()
    assert worker.messages == []
    broker.send({"n": 0}, requests)
    link = worker.channel.client.connection
    eventually(lambda: link.can_read(0), what="the answer")
    worker.channel.read_now()
    assert [each.payload["n"] for each in worker.messages] == [0]
    # The loop, which has seen it too, finds nothing, and does not wait for it.
    with pytest.raises(Empty):
        worker.channel._brpop_read()
    broker.send({"n": 1}, requests)
    assert eventually(lambda: worker.drained() and len(worker.messages) == 2, what="the next")


def test_what_nobody_has_done_anything_with_goes_back_as_the_next_of_its_queue(
    broker: Broker,
) -> None:
    requests = broker.queue_named("requests", no_ack=True)
    worker = Worker(broker, requests)
    for n in range(2):
        broker.send({"n": n}, requests)
    message = worker.receive()
    worker.channel.give_back(message)
    again = Worker(broker, requests)
    eventually(lambda: again.drained() and len(again.messages) == 2, what="both messages")
    assert [each.payload["n"] for each in again.messages] == [0, 1]


@pytest.mark.parametrize("no_ack", [True, False], ids=["without acknowledgements", "with them"])
def test_what_comes_after_its_consumer_has_ended_goes_back(broker: Broker, no_ack: bool) -> None:
    """The connection is closed meanwhile, and no channel is left that kombu knows."""
    queue = broker.queue_named("ended", no_ack=no_ack)
    worker = Worker(broker, queue)
    broker.send("text", queue)
    transport: Any = worker.connection.transport
    transport.cycle.on_poll_start()
    eventually(lambda: broker.client.llen(queue.name) == 0, what="the message to be taken")
    worker.consumer.cancel()
    worker.connection.close()
    assert (broker.client.llen(queue.name), broker.unacked) == (1, {})
    message = Worker(broker, queue).receive()
    assert message.payload == "text"

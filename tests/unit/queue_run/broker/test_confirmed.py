"""When requests are taken from RabbitMQ, over a channel that keeps what it is asked.

tests/acceptance/ has RabbitMQ itself.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Queue
from kombu.transport.base import Message, StdChannel

from queue_run.broker.confirmed import PREFETCH, ConfirmedConsumer


class RecordingChannel(StdChannel):
    """Keeps what it is asked; the test says when RabbitMQ has read it."""

    def __init__(self) -> None:
        self.connection: Any = SimpleNamespace(client=self)
        self.no_ack_consumers: set[str] = set()
        self.asked: list[tuple[Any, ...]] = []
        self.deliver: Callable[[Any], None]
        self.read: Callable[[], None] = lambda: None

    def basic_qos(self, size: int, count: int, apply_global: bool) -> None:
        self.asked.append(("qos", count))

    def basic_consume(self, queue: str, *, callback: Any, no_ack: bool, **_: Any) -> None:
        self.asked.append(("consume", queue, no_ack))
        self.deliver = callback

    def basic_cancel(self, tag: str) -> None:
        self.asked.append(("cancel",))
        # RabbitMQ answers in order.
        self.read()
        self.no_ack_consumers.discard(tag)

    def basic_reject(self, delivery_tag: int, requeue: bool) -> None:
        self.asked.append(("back", delivery_tag))
        assert requeue

    def acknowledge(self, delivery_tag: int, when_read: Callable[[], None]) -> None:
        self.asked.append(("ack", delivery_tag))
        self.read = when_read

    def message_to_python(self, message: Any) -> Message:
        [tag] = self.no_ack_consumers
        number = message.delivery_tag
        return Message("", channel=self, delivery_tag=number, delivery_info={"consumer_tag": tag})


class World:
    """A consumer, its channel, and the messages that it was given."""

    def __init__(self) -> None:
        self.channel = RecordingChannel()
        self.given: list[Any] = []
        self.consumer = ConfirmedConsumer(self.channel, auto_declare=False)
        self.consumer.on_message = self.take
        self.consumer.add_queue(Queue("sockets", no_ack=True))
        self.consumer.consume()
        self.begun = list(self.channel.asked)
        self.channel.asked.clear()

    def take(self, message: Any) -> None:
        self.given.append(message.delivery_tag)
        # There is nothing left to acknowledge.
        message.ack()

    def come(self, *tags: int) -> None:
        for tag in tags:
            self.channel.deliver(SimpleNamespace(delivery_tag=tag))


@pytest.fixture
def world() -> World:
    return World()


def test_it_consumes_with_acknowledgements_and_a_bound(world: World) -> None:
    assert world.begun == [("qos", PREFETCH), ("consume", "sockets", False)]


def test_a_message_is_given_on_when_its_acknowledgement_was_read(world: World) -> None:
    world.come(1)
    assert world.channel.asked == [("ack", 1)]
    assert world.given == []
    world.channel.read()
    assert world.given == [1]


def test_what_comes_while_an_acknowledgement_is_on_its_way_shares_the_next(world: World) -> None:
    world.come(1, 2, 3)
    assert world.channel.asked == [("ack", 1)]
    world.channel.read()
    assert (world.channel.asked, world.given) == ([("ack", 1), ("ack", 3)], [1])
    world.channel.read()
    assert world.given == [1, 2, 3]
    world.come(4)
    assert world.channel.asked[-1] == ("ack", 4)


def test_a_message_that_fails_keeps_no_other_from_being_given_on(world: World) -> None:
    world.come(1, 2, 3)
    world.channel.read()

    def fail(message: Any) -> None:
        world.take(message)
        raise OSError(message.delivery_tag)

    world.consumer.on_message = fail
    with pytest.raises(OSError, match="2"):
        world.channel.read()
    assert world.given == [1, 2, 3]


def test_at_the_end_what_is_not_acknowledged_goes_back(world: World) -> None:
    world.come(1, 2, 3)
    world.consumer.cancel_by_queue("sockets")
    assert world.channel.asked == [("ack", 1), ("cancel",), ("back", 2), ("back", 3)]
    assert world.given == [1]


def test_over_a_lost_link_nothing_goes_back_and_nothing_is_acknowledged(world: World) -> None:
    places: list[Callable[[], None]] = []
    world.consumer.when_free = places.append
    world.come(1)
    world.channel.connection = None
    places.pop()()
    world.consumer.cancel_by_queue("sockets")
    assert (world.channel.asked, world.given) == ([("cancel",)], [])


def test_messages_wait_for_a_free_place_before_they_are_acknowledged(world: World) -> None:
    places: list[Callable[[], None]] = []
    world.consumer.when_free = places.append
    world.come(1, 2)
    assert (world.channel.asked, len(places)) == ([], 1)
    places.pop()()
    assert world.channel.asked == [("ack", 2)]
    world.channel.read()
    assert world.given == [1, 2]


def test_it_may_begin_again_after_its_end(world: World) -> None:
    world.consumer.cancel_by_queue("sockets")
    world.consumer.add_queue(Queue("sockets", no_ack=True))
    world.consumer.consume()
    world.come(5)
    world.channel.read()
    world.channel.read = lambda: None
    assert world.given == [5]

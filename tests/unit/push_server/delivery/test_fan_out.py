"""Deliveries to connections; what a hub makes of entries is in the tests of the hub."""

from push_server.clients.plain import message_frame
from push_server.delivery.fan_out import BYTES_AT_ONCE, WRITES_AT_ONCE, Delivery
from queue_run.contracts.messages import Form, Message
from tests.unit.push_server.building import PushServerParts

HELLO = Message(Form.TEXT, b"hello")


def test_a_message_alone_leaves_at_once() -> None:
    client = PushServerParts().connect()
    delivery = Delivery()
    assert delivery.fan_out((1, 0), HELLO, [client.connection]) is None
    assert client.frames == [message_frame(HELLO)]


async def test_messages_of_one_batch_leave_in_one_piece() -> None:
    client = PushServerParts().connect()
    delivery = Delivery()
    delivery.begin()
    for number in (1, 2):
        assert delivery.fan_out((number, 0), HELLO, [client.connection]) is None
    assert client.frames == []
    await delivery.end()
    assert client.frames == [message_frame(HELLO) * 2]


async def test_a_message_to_many_lets_the_loop_do_other_work() -> None:
    parts = PushServerParts()
    clients = [parts.connect() for _ in range(WRITES_AT_ONCE + 1)]
    delivery = Delivery()
    waiting = delivery.fan_out((1, 0), HELLO, [each.connection for each in clients])
    assert waiting is not None
    await waiting
    assert all(each.frames == [message_frame(HELLO)] for each in clients)
    assert delivery.writes == 0


async def test_many_bytes_leave_before_their_batch_is_through() -> None:
    client = PushServerParts().connect()
    delivery = Delivery()
    delivery.begin()
    long = Message(Form.TEXT, b"x" * BYTES_AT_ONCE)
    waiting = delivery.fan_out((1, 0), long, [client.connection])
    assert waiting is not None
    await waiting
    assert client.frames == [message_frame(long)]

"""Rooms: who is in them, and who gets what is sent to them."""

import pytest

from push_server.clients.connections import Connection, Connections
from push_server.delivery.hub import Hub
from queue_run.channel.listener import Entry
from queue_run.contracts.envelopes import ChannelEnvelope, Membership, ToRoom, encode
from queue_run.contracts.ids import ServerId, UserId
from queue_run.contracts.messages import Message
from queue_run.contracts.messages import encode as encode_message
from tests.unit.push_server.building import (
    KEYS,
    Client,
    PushServerParts,
    new_connection,
    push_server,
)
from tests.unit.recorders import RecordingTransport

SERVER = ServerId("s1")


@pytest.fixture
def connections() -> Connections:
    return Connections(SERVER)


def connect(connections: Connections, user: str | None = None) -> Connection:
    connection = new_connection(connections, RecordingTransport(), user=user)
    connections.add(connection)
    return connection


def test_a_room_has_who_joined_it(connections: Connections) -> None:
    ann, bob, eve = (connect(connections) for _ in range(3))
    connections.join(ann, "hall")
    connections.join(bob, "hall")
    connections.join(eve, "kitchen")
    assert set(connections.of_room("hall")) == {ann, bob}
    assert connections.of_room("cellar") == []


def test_to_join_and_to_leave_twice_is_harmless(connections: Connections) -> None:
    ann = connect(connections)
    connections.leave(ann, "hall")
    connections.join(ann, "hall")
    connections.join(ann, "hall")
    assert connections.of_room("hall") == [ann]
    connections.leave(ann, "hall")
    connections.leave(ann, "hall")
    assert connections.of_room("hall") == []
    assert ann.rooms == set()


def test_leaving_one_room_is_not_leaving_the_others(connections: Connections) -> None:
    ann, bob = connect(connections), connect(connections)
    for room in ("hall", "kitchen"):
        connections.join(ann, room)
        connections.join(bob, room)
    connections.leave(ann, "hall")
    assert connections.of_room("hall") == [bob]
    assert set(connections.of_room("kitchen")) == {ann, bob}


def test_membership_ends_with_the_connection(connections: Connections) -> None:
    ann, bob = connect(connections), connect(connections)
    for room in ("hall", "kitchen"):
        connections.join(ann, room)
    connections.join(bob, "hall")
    connections.remove(ann)
    assert connections.of_room("hall") == [bob]
    assert connections.of_room("kitchen") == []
    assert ann.rooms == set()


def test_a_connection_that_is_gone_cannot_join(connections: Connections) -> None:
    ann = connect(connections)
    connections.remove(ann)
    connections.join(ann, "hall")
    assert connections.of_room("hall") == []


def test_a_room_is_a_snapshot(connections: Connections) -> None:
    members = [connect(connections) for _ in range(3)]
    for member in members:
        connections.join(member, "hall")
    for member in connections.of_room("hall"):
        connections.remove(member)
    assert connections.of_room("hall") == []


# What the hub makes of it


def to_room(data: str, **without: str) -> ToRoom:
    return ToRoom(room="hall", message=message(data), **without)  # type: ignore[arg-type]


def message(data: str) -> Message:
    return encode_message(data, limit=1024)


async def deliver(server: PushServerParts, *envelopes: ChannelEnvelope) -> None:
    """Have a hub deliver these, as they come from the broadcast stream."""

    hub = Hub(
        server.connections,
        server.forwarder,
        broadcast=KEYS.broadcast,
        position=server.position,
        window=server.window,
        session_rooms=server.session_rooms,
        trimming=server.trimming,
    )
    for number, envelope in enumerate(envelopes, start=1):
        waiting = hub.deliver([Entry(KEYS.broadcast, (number, 0), encode(envelope))])
        if waiting is not None:
            await waiting


def heard(*clients: Client) -> list[int]:
    return [len(client.frames) for client in clients]


async def test_a_message_to_a_room_reaches_those_in_it() -> None:
    server = await push_server()
    ann, bob, eve = (server.connect() for _ in range(3))
    joins = [
        Membership(room="hall", joins=True, connection=client.connection.id)
        for client in (ann, bob)
    ]
    await deliver(server, *joins, to_room("hi"))
    assert heard(ann, bob, eve) == [1, 1, 0]
    assert b"hi" in ann.frames[0]


async def test_the_sender_is_excluded_by_connection_or_by_user() -> None:
    server = await push_server()
    here, there, bob = (server.connect(user=user) for user in ("ann", "ann", "bob"))
    nobody = server.connect()
    for client in (here, there, bob, nobody):
        server.connections.join(client.connection, "hall")
    await deliver(server, to_room("hi", without_connection=here.connection.id))
    assert heard(here, there, bob, nobody) == [0, 1, 1, 1]
    await deliver(server, to_room("hi", without_user="ann"))
    assert heard(here, there, bob, nobody) == [0, 1, 2, 2]


async def test_all_connections_of_a_user_join_and_leave_together() -> None:
    server = await push_server()
    here, there, bob = (server.connect(user=user) for user in ("ann", "ann", "bob"))
    users = [UserId("ann"), UserId("away")]
    await deliver(server, Membership(room="hall", joins=True, users=users), to_room("hi"))
    assert heard(here, there, bob) == [1, 1, 0]
    await deliver(server, Membership(room="hall", joins=False, users=users), to_room("hi"))
    assert heard(here, there, bob) == [1, 1, 0]


async def test_the_membership_of_a_connection_of_another_server_is_none_here() -> None:
    server = await push_server()
    ann = server.connect()
    elsewhere = Connections(ServerId("s2")).new_id()
    await deliver(server, Membership(room="hall", joins=True, connection=elsewhere), to_room("hi"))
    assert heard(ann) == [0]

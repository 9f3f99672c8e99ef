"""From the channel to the connections."""

import asyncio
import itertools
import logging
import math
import random
from collections.abc import Callable

import pytest

from push_server.clients.envelope import Phase, Resume
from push_server.clients.plain import message_frame
from push_server.delivery.fan_out import BYTES_AT_ONCE, FRAMES_AT_ONCE, WRITES_AT_ONCE
from push_server.delivery.hub import HANDSHAKE_COST, OUTCOME_COST, RECENT_IDS, Hub
from queue_run.channel.listener import Entry, Offset
from queue_run.contracts.envelopes import (
    ApplicationChanged,
    Authenticate,
    Authenticated,
    ChannelEnvelope,
    CloseConnection,
    CloseUsers,
    Hello,
    Membership,
    Outcome,
    ToConnection,
    ToRoom,
    ToUsers,
    encode,
)
from queue_run.contracts.ids import ConnectionId, RequestId, UserId
from queue_run.contracts.messages import Form, Message
from tests.unit.push_server.building import (
    KEYS,
    SERVER,
    Client,
    PushServerParts,
    error_frame,
    push_server,
)
from tests.waiting import DEADLINE

BROADCAST = KEYS.broadcast
OWN = KEYS.server(SERVER)


def text(data: str) -> Message:
    return Message(Form.TEXT, data.encode())


def frames(*data: str) -> list[bytes]:
    return [message_frame(text(each)) for each in data]


def to_users(data: str, *users: str) -> ToUsers:
    return ToUsers(users=[UserId(user) for user in users], message=text(data))


class Running:
    """A hub that delivers what the test gives to it."""

    def __init__(self, server: PushServerParts, position: Offset) -> None:
        self.server = server
        server.position.move(position)
        self.hub = Hub(
            server.connections,
            server.forwarder,
            broadcast=BROADCAST,
            position=server.position,
            window=server.window,
            session_rooms=server.session_rooms,
            trimming=server.trimming,
        )
        self._number = 0

    async def broadcast(self, *envelopes: ChannelEnvelope, at: int | None = None) -> None:
        """Deliver entries of the broadcast stream, at 1-0, 2-0, … or from another offset on."""
        for envelope in envelopes:
            self._number = at if at is not None else self._number + 1
            await self.deliver([Entry(BROADCAST, (self._number, 0), encode(envelope))])

    async def own(self, *envelopes: ChannelEnvelope) -> None:
        """Deliver entries of this server's own stream."""
        await self.deliver([Entry(OWN, (1, 0), encode(envelope)) for envelope in envelopes])

    async def deliver(self, batch: list[Entry]) -> None:
        waiting = self.hub.deliver(batch)
        if waiting is not None:
            async with asyncio.timeout(DEADLINE):
                await waiting


@pytest.fixture
async def server() -> PushServerParts:
    return await push_server()


@pytest.fixture
def hub(server: PushServerParts) -> Running:
    return Running(server, (0, 0))


def ask(server: PushServerParts, client: Client, *data: str) -> None:
    for each in data:
        server.forwarder.receive(client.connection, each)


def outcome(client: Client, request: int, reply: str, after: str | None = None) -> Outcome:
    return Outcome(
        connection=client.connection.id,
        request=RequestId(f"{client.connection.id}-{request}"),
        reply=text(reply),
        after=after,
    )


# Messages


async def test_a_message_reaches_all_connections_of_its_users_and_nobody_else(
    server: PushServerParts, hub: Running
) -> None:
    phone, laptop, bob, eve, nobody = (
        server.connect(user=user) for user in ("ann", "ann", "bob", "eve", None)
    )
    await hub.broadcast(to_users("hi", "ann", "bob", "somewhere else"))
    assert [client.frames for client in (phone, laptop, bob)] == [frames("hi")] * 3
    assert [client.frames for client in (eve, nobody)] == [[], []]


async def test_messages_keep_their_order(server: PushServerParts, hub: Running) -> None:
    client = server.connect(user="ann")
    await hub.deliver(
        [
            Entry(BROADCAST, (number, 0), encode(to_users(str(number), "ann")))
            for number in range(1, 101)
        ]
    )
    assert b"".join(client.frames) == b"".join(frames(*map(str, range(1, 101))))


async def test_the_messages_of_one_batch_leave_in_one_piece(
    server: PushServerParts, hub: Running
) -> None:
    ann, bob = server.connect(user="ann"), server.connect(user="bob")
    await hub.deliver(
        [
            Entry(BROADCAST, (1, 0), encode(to_users("1", "ann"))),
            Entry(BROADCAST, (2, 0), encode(to_users("2", "ann", "bob"))),
            Entry(BROADCAST, (3, 0), encode(to_users("3", "ann"))),
        ]
    )
    assert ann.frames == [b"".join(frames("1", "2", "3"))]
    assert bob.frames == frames("2")


async def test_a_close_in_a_batch_stays_behind_what_was_sent_before_it(
    server: PushServerParts, hub: Running
) -> None:
    ann = server.connect(user="ann")
    await hub.deliver(
        [
            Entry(BROADCAST, (1, 0), encode(to_users("1", "ann"))),
            Entry(BROADCAST, (2, 0), encode(to_users("2", "ann"))),
            Entry(
                BROADCAST,
                (3, 0),
                encode(CloseUsers(users=[UserId("ann")], code=1000, reason="enough")),
            ),
            Entry(BROADCAST, (4, 0), encode(to_users("4", "ann"))),
        ]
    )
    assert ann.frames == [b"".join(frames("1", "2"))]
    assert ann.connection.closing


async def test_a_message_to_a_connection_reaches_it_alone(
    server: PushServerParts, hub: Running
) -> None:
    client, other = server.connect(user="ann"), server.connect(user="ann")
    await hub.own(ToConnection(connection=client.connection.id, message=text("hi")))
    assert client.frames == frames("hi")
    assert other.frames == []


async def test_a_message_to_a_connection_that_left_is_dropped(hub: Running) -> None:
    await hub.own(
        ToConnection(connection=ConnectionId("s1-99"), message=text("hi")),
        CloseConnection(connection=ConnectionId("s1-99"), code=1000, reason=""),
    )


async def test_a_connection_that_is_closing_gets_no_more(
    server: PushServerParts, hub: Running
) -> None:
    client, other = server.connect(user="ann"), server.connect(user="ann")
    client.connection.close(1000, "")
    await hub.broadcast(to_users("hi", "ann"))
    await hub.own(ToConnection(connection=client.connection.id, message=text("hi")))
    assert client.frames == []
    assert other.frames == frames("hi")


async def test_a_large_fan_out_reaches_everyone_and_lets_other_work_go_on(
    server: PushServerParts, hub: Running
) -> None:
    clients = [server.connect(user="ann") for _ in range(2 * WRITES_AT_ONCE)]
    between: set[int] = set()
    async with asyncio.TaskGroup() as group:
        delivery = group.create_task(hub.broadcast(to_users("hi", "ann")))
        while not delivery.done():
            between.add(sum(bool(client.frames) for client in clients))
            await asyncio.sleep(0)
    assert WRITES_AT_ONCE in between
    assert all(client.frames == frames("hi") for client in clients)


async def test_many_large_messages_at_once_let_other_work_go_on(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect(user="ann")
    large = "x" * (BYTES_AT_ONCE // 4)
    batch = [
        Entry(BROADCAST, (number, 0), encode(to_users(large, "ann"))) for number in range(1, 9)
    ]
    between: set[int] = set()
    async with asyncio.TaskGroup() as group:
        delivery = group.create_task(hub.deliver(batch))
        while not delivery.done():
            between.add(sum(map(len, client.frames)) // len(large))
            await asyncio.sleep(0)
    assert {4, 8} <= between
    assert not between & {1, 2, 3, 5, 6, 7}


async def test_many_answers_to_handshakes_at_once_let_other_work_go_on(
    server: PushServerParts, hub: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Authenticated] = []
    monkeypatch.setattr(server.forwarder, "authenticated", taken.append)
    at_once = math.ceil(FRAMES_AT_ONCE / HANDSHAKE_COST)
    answers = [
        Authenticated(request=RequestId(str(number)), status=200) for number in range(3 * at_once)
    ]
    between: list[int] = []
    async with asyncio.TaskGroup() as group:
        delivery = group.create_task(hub.own(*answers))
        while not delivery.done():
            between.append(len(taken))
            await asyncio.sleep(0)
    assert {at_once, 2 * at_once} <= set(between)
    assert [each.request for each in taken] == [each.request for each in answers]


async def test_many_outcomes_at_once_let_other_work_go_on_and_keep_their_order(
    server: PushServerParts, hub: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Outcome] = []
    monkeypatch.setattr(server.forwarder, "settle", taken.append)
    at_once = FRAMES_AT_ONCE // OUTCOME_COST
    outcomes = [
        Outcome(connection=ConnectionId("s1-1"), request=RequestId(str(number)))
        for number in range(2 * at_once)
    ]
    between: set[int] = set()
    async with asyncio.TaskGroup() as group:
        delivery = group.create_task(hub.own(*outcomes))
        while not delivery.done():
            between.add(len(taken))
            await asyncio.sleep(0)
    assert at_once in between
    assert [each.request for each in taken] == [each.request for each in outcomes]


async def test_connections_that_leave_during_a_fan_out_disturb_nobody(
    server: PushServerParts, hub: Running
) -> None:
    clients = [server.connect(user="ann") for _ in range(2 * WRITES_AT_ONCE)]

    def leave() -> None:
        for client in clients:
            client.connection.closing = True
            server.connections.remove(client.connection)

    loop = asyncio.get_running_loop()
    for client in clients:
        write = client.transport.write

        def write_and_leave(frame: bytes, write: Callable[[bytes], None] = write) -> None:
            write(frame)
            loop.call_soon(leave)

        client.transport.write = write_and_leave  # type: ignore[method-assign]
    await hub.broadcast(to_users("hi", "ann"))
    assert sum(len(client.frames) for client in clients) == WRITES_AT_ONCE
    other = server.connect(user="bob")
    await hub.broadcast(to_users("next", "bob"))
    assert other.frames == frames("next")


# Closing


async def test_all_connections_of_users_are_closed(server: PushServerParts, hub: Running) -> None:
    phone, laptop, bob = (server.connect(user=user) for user in ("ann", "ann", "bob"))
    await hub.broadcast(CloseUsers(users=[UserId("ann")], code=4001, reason="bye"))
    assert [client.transport.closed for client in (phone, laptop)] == [[(4001, "bye")]] * 2
    assert bob.transport.closed == []


async def test_one_connection_is_closed(server: PushServerParts, hub: Running) -> None:
    client, other = server.connect(user="ann"), server.connect(user="ann")
    await hub.own(CloseConnection(connection=client.connection.id, code=1000, reason="done"))
    assert client.transport.closed == [(1000, "done")]
    assert other.transport.closed == []


async def test_a_close_among_the_messages_of_users_keeps_its_place(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect(user="ann")
    close = CloseConnection(connection=client.connection.id, code=1000, reason="done")
    await hub.broadcast(to_users("bye", "ann"), close, to_users("too late", "ann"))
    assert client.frames == frames("bye")
    assert client.transport.closed == [(1000, "done")]


# Outcomes and what they wait for


async def test_an_outcome_goes_to_its_request(server: PushServerParts, hub: Running) -> None:
    client = server.connect()
    ask(server, client, "a")
    await hub.own(outcome(client, 1, "A"))
    assert client.frames == frames("A")


async def test_an_outcome_waits_for_what_its_handler_sent(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect(user="ann")
    ask(server, client, "a")
    await hub.own(outcome(client, 1, "reply", after="2-0"))
    assert client.frames == []
    await hub.broadcast(to_users("one", "ann"))
    assert client.frames == frames("one")
    await hub.broadcast(to_users("two", "ann"))
    assert client.frames == frames("one", "two", "reply")


async def test_an_outcome_whose_messages_have_been_delivered_waits_for_nothing(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect(user="ann")
    ask(server, client, "a")
    await hub.broadcast(to_users("one", "ann"))
    await hub.own(outcome(client, 1, "reply", after="1-0"))
    assert client.frames == frames("one", "reply")


async def test_what_was_on_the_channel_before_the_start_counts_as_delivered(
    server: PushServerParts,
) -> None:
    running = Running(server, (7, 0))
    client = server.connect()
    ask(server, client, "a")
    await running.own(outcome(client, 1, "reply", after="7-0"))
    assert client.frames == frames("reply")


async def test_everything_behind_an_outcome_that_waits_waits_too(
    server: PushServerParts, hub: Running
) -> None:
    ann, bob = server.connect(user="ann"), server.connect(user="bob")
    ask(server, ann, "a")
    ask(server, bob, "b")
    await hub.own(
        outcome(ann, 1, "for ann", after="1-0"),
        ToConnection(connection=ann.connection.id, message=text("behind")),
        outcome(bob, 1, "for bob"),
        CloseConnection(connection=bob.connection.id, code=1000, reason=""),
    )
    assert (ann.frames, bob.frames, bob.transport.closed) == ([], [], [])
    await hub.broadcast(to_users("first", "ann"))
    assert ann.frames == frames("first", "for ann", "behind")
    assert bob.frames == frames("for bob")
    assert bob.transport.closed == [(1000, "")]


async def test_outcomes_that_wait_for_different_offsets_go_one_by_one(
    server: PushServerParts, hub: Running
) -> None:
    ann, bob = server.connect(user="ann"), server.connect(user="bob")
    ask(server, ann, "a")
    ask(server, bob, "b")
    await hub.own(outcome(ann, 1, "A", after="2-0"), outcome(bob, 1, "B", after="1-0"))
    await hub.broadcast(to_users("x", "nobody"))
    # Bob's is due, and stands behind Ann's.
    assert (ann.frames, bob.frames) == ([], [])
    await hub.broadcast(to_users("x", "nobody"))
    assert (ann.frames, bob.frames) == (frames("A"), frames("B"))


async def test_an_entry_that_is_passed_over_counts_as_delivered(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect()
    ask(server, client, "a")
    await hub.own(outcome(client, 1, "A", after="1-0"))
    await hub.deliver([Entry(BROADCAST, (1, 0), b"not an envelope")])
    assert client.frames == frames("A")


async def test_after_a_gap_everything_that_waited_goes(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect()
    ask(server, client, "a", "b")
    await hub.own(outcome(client, 1, "A", after="5-0"))
    hub.hub.release()
    assert client.frames == frames("A")
    await hub.own(outcome(client, 2, "B"))
    assert client.frames == frames("A", "B")


async def test_after_a_gap_what_came_before_it_is_waited_for_no_more(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect()
    ask(server, client, "a")
    server.position.move((5, 0))
    hub.hub.release()
    await hub.own(outcome(client, 1, "A", after="5-0"))
    assert client.frames == frames("A")


async def test_after_a_gap_delivery_goes_on_in_order(server: PushServerParts, hub: Running) -> None:
    client = server.connect(user="ann")
    ask(server, client, "a")
    hub.hub.release()
    await hub.own(outcome(client, 1, "A", after="1-0"))
    assert client.frames == []
    await hub.broadcast(to_users("one", "ann"))
    assert client.frames == frames("one", "A")


# Handshakes and the application


async def test_the_answer_to_a_handshake_waits_for_nothing(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect()
    ask(server, client, "a")
    asked = Authenticate(
        id=RequestId("s1-2-0"),
        server=SERVER,
        path="/",
        headers=[],
        remote_ip="127.0.0.1",
        expires=1.0,
    )
    handshake = asyncio.create_task(server.forwarder.authenticate(asked))
    await asyncio.sleep(0)
    await hub.own(outcome(client, 1, "A", after="9-0"), Authenticated(request=asked.id, status=401))
    async with asyncio.timeout(DEADLINE):
        assert (await handshake).status == 401
    assert client.frames == []


async def test_a_change_of_the_application_is_read(server: PushServerParts, hub: Running) -> None:
    server.redis.workers = False
    await hub.broadcast(ApplicationChanged(version="abc"))
    assert not server.application.available


async def test_the_first_entry_of_a_stream_means_nothing(hub: Running) -> None:
    await hub.own(Hello())


# Second copies and broken entries


async def test_the_second_copy_of_an_envelope_is_dropped(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect(user="ann")
    repeated = to_users("once", "ann")
    await hub.broadcast(repeated, repeated, to_users("next", "ann"), repeated)
    assert client.frames == frames("once", "next")


async def test_the_same_message_sent_twice_is_delivered_twice(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect(user="ann")
    await hub.broadcast(to_users("again", "ann"), to_users("again", "ann"))
    assert client.frames == frames("again", "again")


async def test_a_second_copy_counts_as_delivered(server: PushServerParts, hub: Running) -> None:
    client = server.connect(user="ann")
    ask(server, client, "a")
    repeated = to_users("once", "ann")
    await hub.broadcast(repeated)
    await hub.own(outcome(client, 1, "A", after="2-0"))
    await hub.broadcast(repeated)
    assert client.frames == frames("once", "A")


async def test_ids_are_remembered_up_to_a_bound(hub: Running) -> None:
    for number in range(RECENT_IDS + 10):
        hub.hub._is_new(number.to_bytes(8, "big"))
    assert len(hub.hub._recent) == RECENT_IDS
    assert not hub.hub._is_new((RECENT_IDS + 9).to_bytes(8, "big"))
    assert hub.hub._is_new((0).to_bytes(8, "big"))


async def test_a_connection_that_fails_in_a_batch_does_not_end_delivery(
    server: PushServerParts, hub: Running, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = server.connect(user="ann"), server.connect(user="bob")
    broken.connection.transport = Exploding()  # type: ignore[assignment]
    await hub.deliver(
        [
            Entry(BROADCAST, (1, 0), encode(to_users("x", "ann"))),
            Entry(BROADCAST, (2, 0), encode(to_users("y", "bob"))),
        ]
    )
    await hub.broadcast(to_users("z", "bob"), at=3)
    assert other.frames == frames("y", "z")
    assert "what was kept back could not be sent" in caplog.text


async def test_what_was_held_and_fails_does_not_end_delivery(
    server: PushServerParts, hub: Running, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = server.connect(user="ann"), server.connect(user="bob")
    ask(server, broken, "a")
    ask(server, other, "b")
    await hub.own(outcome(broken, 1, "A", after="1-0"), outcome(other, 1, "B", after="1-0"))
    broken.connection.transport = Exploding()  # type: ignore[assignment]
    await hub.broadcast(to_users("x", "nobody"))
    assert other.frames == frames("B")
    assert "what was held for a connection could not be delivered" in caplog.text


async def test_an_entry_that_fails_does_not_hold_up_the_replies_behind_it(
    server: PushServerParts, hub: Running
) -> None:
    broken, other = server.connect(user="ann"), server.connect(user="bob")
    ask(server, other, "b")
    await hub.own(outcome(other, 1, "B", after="1-0"))
    broken.connection.transport = Exploding()  # type: ignore[assignment]
    await hub.broadcast(to_users("x", "ann"))
    assert other.frames == frames("B")


@pytest.mark.parametrize("broken", [b"", b"\x02later version", b"\x01\xc1", b"\x01\x92\xa5hello"])
async def test_an_invalid_envelope_is_logged_and_the_next_delivered(
    server: PushServerParts, hub: Running, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = server.connect(user="ann")
    await hub.deliver(
        [Entry(BROADCAST, (1, 0), broken), Entry(BROADCAST, (2, 0), encode(to_users("x", "ann")))]
    )
    assert client.frames == frames("x")
    assert f"{BROADCAST}: not an envelope" in caplog.text


async def test_a_connection_that_fails_does_not_end_delivery(
    server: PushServerParts, hub: Running, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = server.connect(user="ann"), server.connect(user="bob")
    broken.connection.transport = Exploding()  # type: ignore[assignment]
    with caplog.at_level(logging.ERROR):
        await hub.broadcast(to_users("x", "ann"), to_users("y", "bob"))
    assert other.frames == frames("y")
    assert "could not be delivered" in caplog.text


async def test_an_outcome_that_waits_for_nonsense_holds_nobody_up_for_ever(
    server: PushServerParts, hub: Running
) -> None:
    ann, bob = server.connect(), server.connect()
    ask(server, ann, "a")
    ask(server, bob, "b")
    await hub.own(outcome(ann, 1, "A", after="1-0"), outcome(bob, 1, "B", after="nonsense"))
    await hub.broadcast(to_users("x", "nobody"), to_users("x", "nobody"))
    await hub.own(ToConnection(connection=ann.connection.id, message=text("next")))
    assert ann.frames == frames("A", "next")


async def test_an_error_of_a_worker_reaches_its_client(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect()
    ask(server, client, "a")
    await hub.own(
        Outcome(
            connection=client.connection.id,
            request=RequestId(f"{client.connection.id}-1"),
            error="failed",
        )
    )
    assert client.frames == [error_frame("failed")]


class Exploding:
    """A transport with a defect."""

    def write(self, frame: bytes) -> None:
        raise LookupError("a defect")


# Clients that can resume


def told(client: Client) -> list[object]:
    return [each.get("data", each["type"]) for each in client.told]


async def test_an_enveloped_client_gets_messages_with_their_offsets(
    server: PushServerParts, hub: Running
) -> None:
    plain, one, two = (
        server.connect(user="ann"),
        server.connect_enveloped(user="ann"),
        server.connect_enveloped(user="ann"),
    )
    await hub.broadcast(to_users("x", "bob"), to_users("hi", "ann"))
    assert plain.frames == frames("hi")
    assert one.told == [{"type": "message", "offset": "2-0", "data": "hi"}]
    # The same bytes for all.
    assert one.frames[0] is two.frames[0]


@pytest.mark.parametrize("phase", [Phase.HELD, Phase.REPLAYING])
async def test_nobody_who_is_not_live_gets_what_is_sent(
    server: PushServerParts, hub: Running, phase: Phase
) -> None:
    client = server.connect_enveloped("s", user="ann", live=False)
    state = client.connection.session
    assert state is not None
    state.phase = phase
    await hub.broadcast(
        Membership(room="hall", joins=True, session="s"),
        to_users("a", "ann"),
        ToRoom(room="hall", message=text("b")),
        ToConnection(connection=client.connection.id, session="s", message=text("c")),
    )
    await hub.own(ToConnection(connection=client.connection.id, message=text("d")))
    assert client.told == []
    server.resumption.start(client.connection)
    if phase is Phase.HELD:
        assert told(client) == ["a", "b", "c", "d"]
    server.resumption.closed(client.connection)


async def test_a_message_to_a_session_reaches_whoever_has_it(
    server: PushServerParts, hub: Running
) -> None:
    old, new = server.connect_enveloped("s"), server.connect_enveloped("t")
    to_session = [
        ToConnection(connection=old.connection.id, session="s", message=text(each))
        for each in ("one", "two", "three")
    ]
    await hub.broadcast(to_session[0])
    server.connections.take_over(new.connection, "s", (0, 0))
    await hub.broadcast(to_session[1])
    server.connections.remove(new.connection)
    await hub.broadcast(to_session[2])
    assert (told(old), told(new)) == (["one"], ["two"])
    assert new.told[0]["offset"] == "2-0"


async def test_a_membership_by_session_is_that_of_whoever_has_it(
    server: PushServerParts, hub: Running
) -> None:
    old, new = server.connect_enveloped("s"), server.connect_enveloped("t")
    server.connections.take_over(new.connection, "s", (0, 0))
    await hub.broadcast(
        Membership(room="hall", joins=True, session="s", connection=old.connection.id)
    )
    assert (old.connection.rooms, new.connection.rooms) == (set(), {"hall"})
    assert server.session_rooms.rooms == {"s": {"hall"}}
    await hub.broadcast(
        ToRoom(room="hall", message=text("a"), without_session="s"),
        ToRoom(room="hall", message=text("b"), without_session="t"),
    )
    assert (told(old), told(new)) == ([], ["b"])


async def test_a_membership_of_users_is_kept_for_each_of_their_sessions(
    server: PushServerParts, hub: Running
) -> None:
    server.connect_enveloped("s", user="ann")
    server.connect_enveloped("t", user="ann")
    server.connect(user="ann")
    ann = [UserId("ann")]
    await hub.broadcast(Membership(room="hall", joins=True, users=ann))
    assert server.session_rooms.rooms == {"s": {"hall"}, "t": {"hall"}}
    await hub.broadcast(Membership(room="hall", joins=False, users=ann))
    assert server.session_rooms.rooms == {"s": set(), "t": set()}


async def test_what_was_there_before_the_start_is_kept_and_known_again(
    server: PushServerParts, hub: Running
) -> None:
    primed = to_users("before", "ann")
    hub.hub.prime(Entry(BROADCAST, (1, 0), encode(primed)))
    hub.hub.prime(Entry(BROADCAST, (2, 0), b"not an envelope"))
    server.position.move((2, 0))
    live = server.connect_enveloped(user="ann")
    await hub.broadcast(primed, at=3)
    assert told(live) == []
    client = server.connect_enveloped(user="ann", live=False)
    server.resumption.resume(client.connection, Resume(None, "0-0", "e1"))
    assert told(client) == ["before", "resumed"]


async def test_a_second_copy_is_not_missed_twice(server: PushServerParts, hub: Running) -> None:
    repeated = to_users("once", "ann")
    await hub.broadcast(repeated, repeated)
    client = server.connect_enveloped(user="ann", live=False)
    server.resumption.resume(client.connection, Resume(None, "0-0", "e1"))
    assert told(client) == ["once", "resumed"]


async def test_while_a_message_is_being_written_the_position_says_so(
    server: PushServerParts, hub: Running
) -> None:
    clients = [server.connect_enveloped(user="ann") for _ in range(2 * WRITES_AT_ONCE)]
    seen: set[tuple[bool, int]] = set()
    async with asyncio.TaskGroup() as group:
        delivery = group.create_task(hub.broadcast(to_users("hi", "ann")))
        while not delivery.done():
            some = sum(bool(client.frames) for client in clients)
            if 0 < some < len(clients):
                seen.add((server.position.delivering, server.position.offset[0]))
            await asyncio.sleep(0)
    assert seen == {(True, 0)}
    assert not server.position.delivering
    assert server.position.offset == (1, 0)


async def test_a_late_outcome_waits_like_any_other(server: PushServerParts, hub: Running) -> None:
    ann, bob = server.connect(user="ann"), server.connect(user="bob")
    ask(server, ann, "a")
    ask(server, bob, "b")
    hub.hub.take_late(outcome(ann, 1, "A", after="1-0"))
    hub.hub.take_late(outcome(bob, 1, "B"))
    assert (ann.frames, bob.frames) == ([], [])
    await hub.broadcast(to_users("first", "ann"))
    assert (ann.frames, bob.frames) == (frames("first", "A"), frames("B"))


async def test_a_late_outcome_that_waits_for_nothing_goes_at_once(
    server: PushServerParts, hub: Running
) -> None:
    client = server.connect()
    ask(server, client, "a")
    hub.hub.take_late(outcome(client, 1, "A"))
    assert client.frames == frames("A")


@pytest.mark.parametrize("seed", range(10))
async def test_a_ping_tells_exactly_up_to_where_its_client_is(
    server: PushServerParts, hub: Running, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever resumes from the offset of any ping gets all that came after it and nothing else."""
    monkeypatch.setattr("push_server.delivery.fan_out.WRITES_AT_ONCE", 2)
    chance = random.Random(seed)
    users = [f"user-{n}" for n in range(4)]
    clients = {user: server.connect_enveloped(user=user, live=False) for user in users}
    due: dict[str, list[str]] = {user: [] for user in users}

    async def ping() -> None:
        while not sending.done():
            server.liveness._ping([client.connection for client in clients.values()])
            if chance.random() < 0.2:
                server.resumption.start(clients[chance.choice(users)].connection)
            for _ in range(chance.randint(1, 4)):
                await asyncio.sleep(0)

    async def send() -> None:
        numbers = iter(range(60))
        while batch := list(itertools.islice(numbers, chance.randint(1, 3))):
            entries = []
            for number in batch:
                receivers = chance.sample(users, chance.randint(1, 4))
                for user in receivers:
                    due[user].append(str(number))
                envelope = to_users(str(number), *receivers)
                entries.append(Entry(BROADCAST, (number + 1, 0), encode(envelope)))
            await hub.deliver(entries)
            await asyncio.sleep(0)

    sending = asyncio.create_task(send())
    await asyncio.gather(sending, ping())
    pings = 0
    for user, client in clients.items():
        server.resumption.start(client.connection)
        got: list[str] = []
        for each in client.told:
            if each["type"] == "message":
                got.append(each["data"])
            elif "offset" in each:
                pings += 1
                position = int(each["offset"].partition("-")[0])
                assert got == [data for data in due[user] if int(data) < position]
        assert got == due[user]
    assert pings > 0

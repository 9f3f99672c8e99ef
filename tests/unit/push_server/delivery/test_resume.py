"""Resuming: nothing twice, nothing missing, everything in order."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from push_server.clients.envelope import Phase, Resume, Session
from push_server.delivery.hub import Hub
from push_server.delivery.resume import HOLD_TIME, MESSAGES_AT_ONCE
from queue_run.channel.listener import Entry, Offset, format_offset
from queue_run.contracts.envelopes import (
    ChannelEnvelope,
    Inbound,
    Membership,
    Outcome,
    ToConnection,
    ToRoom,
    ToUsers,
    encode,
)
from queue_run.contracts.ids import RequestId, UserId
from queue_run.contracts.messages import Form, Message
from tests.unit.push_server.building import KEYS, SEALS, Client, PushServerParts, push_server
from tests.waiting import eventually_async

ANN = UserId("ann")


def number(value: int) -> Message:
    return Message(Form.JSON, str(value).encode())


def to_ann(value: int) -> ToUsers:
    return ToUsers(users=[ANN], message=number(value))


class Server:
    """A hub, its window, and its clients."""

    def __init__(self, parts: PushServerParts) -> None:
        self.parts = parts
        self.hub = Hub(
            parts.connections,
            parts.forwarder,
            broadcast=KEYS.broadcast,
            position=parts.position,
            window=parts.window,
            session_rooms=parts.session_rooms,
            trimming=parts.trimming,
        )
        self.last = 0

    async def send(self, *envelopes: ChannelEnvelope) -> None:
        """Entries at 1-0, 2-0, …"""
        for envelope in envelopes:
            self.last += 1
            entry = Entry(KEYS.broadcast, (self.last, 0), encode(envelope))
            waiting = self.hub.deliver([entry])
            if waiting is not None:
                await waiting

    def resume(self, client: Client, offset: str, *, epoch: str = "e1", session: str = "") -> None:
        asked = Resume(session or state(client).id, offset, epoch)
        self.parts.resumption.resume(client.connection, asked)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server(await push_server())
    yield made
    for connection in made.parts.connections:
        made.parts.resumption.closed(connection)


def state(client: Client) -> Session:
    assert client.connection.session is not None
    return client.connection.session


def messages(client: Client) -> list[int]:
    return [each["data"] for each in client.told if each["type"] == "message"]


async def answered(client: Client) -> None:
    """Wait for the answer to a resume, which asks for the rooms of its session first."""
    await eventually_async(
        lambda: any(each["type"] in ("resumed", "gap") for each in client.told),
        what="the answer to a resume",
    )


# Held


async def test_until_its_first_frame_a_client_gets_no_message(server: Server) -> None:
    client = server.parts.connect_enveloped(user="ann", live=False)
    await server.send(to_ann(1))
    assert client.told == []
    assert state(client).phase is Phase.HELD


async def test_a_client_that_starts_gets_what_came_meanwhile_and_then_the_rest(
    server: Server,
) -> None:
    await server.send(to_ann(1))
    client = server.parts.connect_enveloped(user="ann", live=False)
    await server.send(to_ann(2))
    server.parts.resumption.start(client.connection)
    await server.send(to_ann(3))
    assert client.told == [
        {"type": "message", "offset": "2-0", "data": 2},
        {"type": "message", "offset": "3-0", "data": 3},
    ]


async def test_to_start_twice_is_harmless(server: Server) -> None:
    client = server.parts.connect_enveloped(user="ann")
    await server.send(to_ann(1))
    server.parts.resumption.start(client.connection)
    assert messages(client) == [1]


async def test_a_client_that_says_nothing_is_held_for_a_while_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("push_server.delivery.resume.HOLD_TIME", 0.01)
    client = server.parts.connect_enveloped(user="ann", live=False)
    await server.send(to_ann(1))
    await eventually_async(lambda: messages(client) == [1], what="the end of the hold")
    assert HOLD_TIME == 2


async def test_one_that_leaves_while_it_is_held_is_forgotten(server: Server) -> None:
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.parts.resumption.closed(client.connection)
    server.parts.resumption.start(client.connection)
    assert state(client).phase is Phase.HELD


# Resumed


async def test_a_client_that_resumes_gets_what_it_missed_and_then_the_rest(server: Server) -> None:
    await server.send(*(to_ann(value) for value in (1, 2, 3)))
    client = server.parts.connect_enveloped(user="ann", live=False)
    await server.send(to_ann(4))
    server.resume(client, "1-0")
    await answered(client)
    await server.send(to_ann(5))
    assert messages(client) == [2, 3, 4, 5]
    assert client.told[3] == {
        "type": "resumed",
        "session": state(client).id,
        "offset": "4-0",
    }


async def test_what_is_for_others_is_not_replayed(server: Server) -> None:
    await server.send(
        ToUsers(users=[UserId("bob")], message=number(1)),
        ToUsers(users=[UserId(f"user-{n}") for n in range(100)], message=number(2)),
        ToUsers(users=[ANN, *(UserId(f"user-{n}") for n in range(100))], message=number(3)),
        ToConnection(
            connection=server.parts.connections.new_id(), session="another", message=number(4)
        ),
        ToRoom(room="hall", message=number(5)),
    )
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.resume(client, "0-0")
    await answered(client)
    assert messages(client) == [3]


async def test_a_client_that_was_further_elsewhere_gets_nothing_twice(server: Server) -> None:
    await server.send(to_ann(1))
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.parts.session_rooms.end = (2, 0)
    server.resume(client, "2-0")
    await server.send(to_ann(2), to_ann(3))
    await answered(client)
    assert messages(client) == [3]


async def test_a_client_takes_its_session_over(server: Server) -> None:
    old = server.parts.connect_enveloped()
    session = state(old).id
    new = server.parts.connect_enveloped(live=False)
    server.resume(new, "0-0", session=session)
    await answered(new)
    await server.send(
        ToConnection(connection=old.connection.id, session=session, message=number(1))
    )
    assert new.told[0] == {"type": "resumed", "session": session, "offset": "0-0"}
    assert messages(new) == [1]
    # Its end is no end of the session, which is another connection's now.
    server.parts.connections.remove(old.connection)
    assert server.parts.connections.of_session(session) is new.connection


async def test_the_session_of_another_user_is_not_taken_over(server: Server) -> None:
    client = server.parts.connect_enveloped(user="ann", live=False)
    own = state(client).id
    server.resume(client, "0-0", session=SEALS.new(UserId("bob")))
    assert client.told == [{"type": "resumed", "session": own, "offset": "0-0"}]


async def test_rooms_are_those_of_the_session_and_of_what_was_missed(server: Server) -> None:
    session = SEALS.new(ANN)
    server.parts.session_rooms.rooms[session] = {"hall", "garden"}
    await server.send(
        ToRoom(room="hall", message=number(1)),
        ToRoom(room="kitchen", message=number(2)),
        Membership(room="kitchen", joins=True, session=session),
        ToRoom(room="kitchen", message=number(3)),
        Membership(room="hall", joins=False, session=session),
        ToRoom(room="hall", message=number(4)),
        ToRoom(room="garden", message=number(5), without_session=session),
    )
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.resume(client, "0-0", session=session)
    await answered(client)
    assert messages(client) == [1, 3]
    assert client.connection.rooms == {"garden", "kitchen"}
    await server.send(ToRoom(room="garden", message=number(6)))
    assert messages(client) == [1, 3, 6]


async def test_while_rooms_are_not_known_a_client_waits_for_them(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("push_server.delivery.resume.ROOMS_PAUSE", 0.001)
    session = SEALS.new(ANN)
    rooms = server.parts.session_rooms
    rooms.rooms[session] = {"hall"}
    rooms.failures = 3
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.resume(client, "0-0", session=session)
    await server.send(ToRoom(room="hall", message=number(1)))
    await answered(client)
    assert rooms.failures == 0
    assert messages(client) == [1]


async def test_one_that_leaves_while_its_rooms_are_not_known_is_forgotten(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("push_server.delivery.resume.ROOMS_PAUSE", 0.001)
    server.parts.session_rooms.failures = 10**9
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.resume(client, "0-0")
    await asyncio.sleep(0)
    client.connection.closing = True
    await eventually_async(lambda: not server.parts.resumption._replays, what="the end")
    assert client.told == []


async def test_a_join_that_came_once_more_while_a_client_was_away_hides_nothing(
    server: Server,
) -> None:
    session = SEALS.new(ANN)
    server.parts.session_rooms.rooms[session] = {"hall"}
    join = Membership(room="hall", joins=True, session=session)
    await server.send(join, ToRoom(room="hall", message=number(2)))
    await server.send(Membership(room="hall", joins=True, session=session))
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.resume(client, "1-0", session=session)
    await answered(client)
    assert messages(client) == [2]


async def test_what_is_being_written_is_not_written_to_one_that_has_just_had_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("push_server.delivery.fan_out.WRITES_AT_ONCE", 1)
    first = server.parts.connect(user="ann")
    clients = [server.parts.connect_enveloped(user="ann", live=False) for _ in range(3)]
    resumed = False

    async def resume() -> None:
        nonlocal resumed
        await eventually_async(lambda: first.frames, what="the first write")
        for client in clients:
            server.resume(client, "0-0")
            server.parts.resumption.start(client.connection)
        resumed = True

    async with asyncio.TaskGroup() as group:
        group.create_task(resume())
        while not resumed:
            await server.send(to_ann(server.last + 1))
    for client in clients:
        await answered(client)
        assert messages(client) == list(range(1, server.last + 1))


async def test_one_that_cannot_be_resumed_is_dropped(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def explode(session: str, user: UserId) -> list[str]:
        raise LookupError("a defect")

    monkeypatch.setattr(server.parts.session_rooms, "of", explode)
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.resume(client, "0-0")
    await eventually_async(lambda: client.transport.aborted, what="the drop")
    assert "a defect" in caplog.text


async def test_answers_follow_what_was_missed(server: Server) -> None:
    client = server.parts.connect_enveloped(user="ann", live=False)
    client.transport.room = 1
    await server.send(to_ann(1), to_ann(2))
    server.resume(client, "0-0")
    await eventually_async(lambda: messages(client) == [1], what="the first message")
    state(client).accept(RequestId("r"), 7)
    client.connection.lane.add(plain_request("r"))
    client.connection.lane.next_turn()
    server.hub.take_late(
        Outcome(connection=client.connection.id, request=RequestId("r"), reply=number(9))
    )
    client.transport.drain(None)
    await answered(client)
    assert [each["type"] for each in client.told] == ["message", "message", "resumed", "reply"]


def plain_request(request: str) -> Inbound:
    return Inbound(id=RequestId(request), text="null", json=True)


# Gaps


@pytest.mark.parametrize(
    ("offset", "epoch"), [("0-0", "e0"), ("none", "e1"), ("1-x", "e1"), ("", "e1")]
)
async def test_what_cannot_be_resumed_is_a_gap(server: Server, offset: str, epoch: str) -> None:
    await server.send(to_ann(1))
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.resume(client, offset, epoch=epoch)
    await answered(client)
    await server.send(to_ann(2))
    assert client.told == [
        {"type": "gap", "session": state(client).id, "offset": "1-0", "epoch": "e1"},
        {"type": "message", "offset": "2-0", "data": 2},
    ]


async def test_what_is_held_no_more_is_a_gap(server: Server) -> None:
    await server.send(to_ann(1), to_ann(2))
    server.parts.window.clear((2, 0))
    before, at = (server.parts.connect_enveloped(user="ann", live=False) for _ in range(2))
    server.resume(before, "1-0")
    server.resume(at, "2-0")
    await answered(before)
    await answered(at)
    assert [client.told[0]["type"] for client in (before, at)] == ["gap", "resumed"]


async def test_a_resume_that_is_not_the_first_frame_is_a_gap(server: Server) -> None:
    client = server.parts.connect_enveloped(user="ann")
    server.resume(client, "0-0")
    await answered(client)
    assert [each["type"] for each in client.told] == ["gap"]


async def test_a_hole_is_told_to_everybody_in_whatever_phase(server: Server) -> None:
    await server.send(to_ann(1))
    live = server.parts.connect_enveloped(user="ann")
    held = server.parts.connect_enveloped(user="ann", live=False)
    plain = server.parts.connect(user="ann")
    server.parts.position.move((5, 0))
    server.parts.resumption.tell_gap_to_all()
    assert [each["type"] for each in live.told] == ["gap"]
    server.resume(held, "1-0")
    await answered(held)
    assert [each["type"] for each in held.told] == ["gap"]
    assert plain.frames == []


@pytest.mark.parametrize("how", ["start", "resume"])
async def test_one_that_is_held_learns_of_a_hole_where_it_stands(server: Server, how: str) -> None:
    """A stream that Redis has lost gives no offset behind which to go on."""
    await server.send(to_ann(1))
    held = server.parts.connect_enveloped(user="ann", live=False)
    server.parts.position.epoch = "e2"
    server.parts.resumption.tell_gap_to_all()
    if how == "start":
        server.parts.resumption.start(held.connection)
    else:
        server.resume(held, "1-0")
        await answered(held)
    await server.send(to_ann(2))
    assert [each["type"] for each in held.told] == ["gap", "message"]
    assert (held.told[0]["offset"], held.told[0]["epoch"]) == ("1-0", "e2")


async def test_one_that_was_elsewhere_after_the_hole_resumes(server: Server) -> None:
    await server.send(to_ann(1))
    held = server.parts.connect_enveloped(user="ann", live=False)
    server.parts.position.epoch = "e2"
    server.parts.resumption.tell_gap_to_all()
    await server.send(to_ann(2))
    server.resume(held, "1-0", epoch="e2")
    await answered(held)
    assert [each["type"] for each in held.told] == ["message", "resumed"]


async def test_a_hole_while_a_client_gets_what_it_missed_is_told_to_it(server: Server) -> None:
    await server.send(to_ann(1), to_ann(2))
    client = server.parts.connect_enveloped(user="ann", live=False)
    client.transport.room = 2
    server.resume(client, "0-0")
    await eventually_async(lambda: messages(client) == [1, 2], what="what was missed")
    assert state(client).phase is Phase.REPLAYING
    server.parts.resumption.tell_gap_to_all()
    client.transport.drain(None)
    await answered(client)
    assert [each["type"] for each in client.told] == ["message", "message", "gap"]


async def test_after_a_gap_a_client_is_in_its_rooms(server: Server) -> None:
    session = SEALS.new(ANN)
    server.parts.session_rooms.rooms[session] = {"hall", "kitchen"}
    await server.send(
        Membership(room="kitchen", joins=False, session=session),
        Membership(room="garden", joins=True, session=session),
    )
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.resume(client, "0-0", epoch="another", session=session)
    await answered(client)
    assert client.connection.rooms == {"hall", "garden"}
    await server.send(ToRoom(room="garden", message=number(1)))
    assert [each["type"] for each in client.told] == ["gap", "message"]


async def test_a_gap_tells_the_offset_that_some_may_have_had(server: Server) -> None:
    client = server.parts.connect_enveloped(user="ann")
    server.parts.position.move((5, 0))
    server.parts.position.begun = (6, 0)
    server.parts.resumption.tell_gap_to_all()
    assert client.told[0]["offset"] == "6-0"


@pytest.mark.parametrize(
    "offset", ["3-0", "2-1", "99999999999999-0", "18446744073709551615-18446744073709551615"]
)
async def test_an_offset_beyond_the_end_is_a_gap(server: Server, offset: str) -> None:
    await server.send(to_ann(1), to_ann(2))
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.resume(client, offset)
    await answered(client)
    await server.send(to_ann(3))
    assert [each["type"] for each in client.told] == ["gap", "message"]
    assert client.told[0]["offset"] == "2-0"


async def test_an_offset_beyond_the_end_is_a_gap_without_a_session_too(server: Server) -> None:
    await server.send(to_ann(1))
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.parts.resumption.resume(client.connection, Resume(None, "2-0", "e1"))
    await answered(client)
    assert [each["type"] for each in client.told] == ["gap"]


async def test_who_is_further_than_a_stream_that_was_cut_short_is_told(server: Server) -> None:
    """Nobody has told this server yet that it was."""
    await server.send(to_ann(1), to_ann(2))
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.parts.session_rooms.end = (1, 0)
    server.resume(client, "2-0")
    await answered(client)
    assert [each["type"] for each in client.told] == ["gap"]


# Sessions that are over


async def test_a_session_that_is_over_is_not_gone_on_with(server: Server) -> None:
    session = SEALS.new(ANN)
    server.parts.session_rooms.over.add(session)
    await server.send(to_ann(1), to_ann(2))
    client = server.parts.connect_enveloped(user="ann", live=False)
    own = state(client).id
    server.resume(client, "1-0", session=session)
    await answered(client)
    # It was in no room: nothing is missing.
    assert [each["type"] for each in client.told] == ["message", "resumed"]
    assert client.told[1]["session"] == own == state(client).id


async def test_who_was_in_rooms_of_a_session_that_is_over_is_told_of_a_gap(server: Server) -> None:
    session = SEALS.new(ANN)
    server.parts.session_rooms.over.add(session)
    server.parts.session_rooms.rooms[session] = {"hall"}
    await server.send(to_ann(1), ToRoom(room="hall", message=number(2)), to_ann(3))
    client = server.parts.connect_enveloped(user="ann", live=False)
    own = state(client).id
    server.resume(client, "0-0", session=session)
    await answered(client)
    assert messages(client) == [1, 3]
    assert client.told[-1] == {"type": "gap", "session": own, "offset": "3-0", "epoch": "e1"}
    assert not client.connection.rooms
    await server.send(ToRoom(room="hall", message=number(4)), to_ann(5))
    assert messages(client) == [1, 3, 5]


async def test_a_session_that_is_still_here_is_not_over(server: Server) -> None:
    old = server.parts.connect_enveloped(user="ann")
    session = state(old).id
    server.parts.session_rooms.over.add(session)
    client = server.parts.connect_enveloped(user="ann", live=False)
    server.resume(client, "0-0", session=session)
    await answered(client)
    assert client.told[-1]["session"] == session


async def test_until_it_is_known_whose_session_it_is_nothing_more_is_read(server: Server) -> None:
    client = server.parts.connect_enveloped(user="ann", live=False)
    waiting = server.parts.resumption.resume(client.connection, Resume(SEALS.new(ANN), "0-0", "e1"))
    assert waiting is not None
    assert client.connection.paused
    await waiting
    assert not client.connection.paused


async def test_a_late_resume_goes_on_with_its_session_and_its_rooms(server: Server) -> None:
    session = SEALS.new(ANN)
    server.parts.session_rooms.rooms[session] = {"hall"}
    client = server.parts.connect_enveloped(user="ann")
    server.resume(client, "0-0", session=session)
    await answered(client)
    assert (client.told[-1]["type"], client.told[-1]["session"]) == ("gap", session)
    assert client.connection.rooms == {"hall"}


# Much


async def test_a_client_that_reads_slowly_gets_all_of_it(server: Server) -> None:
    count = 3 * MESSAGES_AT_ONCE + 7
    await server.send(*(to_ann(value) for value in range(count)))
    client = server.parts.connect_enveloped(user="ann", live=False)
    client.transport.room = 10
    server.resume(client, "0-0")
    await eventually_async(lambda: len(messages(client)) == 10, what="the first messages")
    await server.send(to_ann(count))
    client.transport.drain(None)
    await answered(client)
    await server.send(to_ann(count + 1))
    assert messages(client) == list(range(count + 2))


async def test_a_client_that_leaves_in_the_midst_of_it_is_no_error(server: Server) -> None:
    await server.send(*(to_ann(value) for value in range(20)))
    client = server.parts.connect_enveloped(user="ann", live=False)
    client.transport.room = 10
    server.resume(client, "0-0")
    await eventually_async(lambda: len(messages(client)) == 10, what="the first messages")
    client.connection.closing = True
    client.transport.drain(None)
    await eventually_async(lambda: not server.parts.resumption._replays, what="the end")
    assert len(messages(client)) == 10


async def test_what_leaves_the_window_before_it_was_taken_is_a_gap(server: Server) -> None:
    await server.send(*(to_ann(value) for value in range(20)))
    client = server.parts.connect_enveloped(user="ann", live=False)
    client.transport.room = 10
    server.resume(client, "0-0")
    await eventually_async(lambda: len(messages(client)) == 10, what="the first messages")
    server.parts.window.clear((15, 0))
    client.transport.drain(None)
    await answered(client)
    assert client.told[-1]["type"] == "gap"


@pytest.mark.parametrize("seed", range(20))
async def test_whenever_clients_come_back_each_gets_everything_once_and_in_order(
    server: Server, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries that breathe in their midst, sockets that jam, clients that come and go."""
    monkeypatch.setattr("push_server.delivery.fan_out.WRITES_AT_ONCE", 2)
    chance = random.Random(seed)
    users = [UserId(f"user-{n}") for n in range(6)]
    due: dict[UserId, list[int]] = {user: [] for user in users}
    got: dict[UserId, list[int]] = {user: [] for user in users}
    offsets: dict[UserId, Offset] = dict.fromkeys(users, (0, 0))
    clients: dict[UserId, Client] = {}

    def leave(user: UserId) -> None:
        client = clients.pop(user)
        client.connection.closing = True
        server.parts.connections.remove(client.connection)
        server.parts.resumption.closed(client.connection)
        for each in client.told:
            if each["type"] == "message":
                got[user].append(each["data"])
            if "offset" in each:
                milliseconds, _, rest = each["offset"].partition("-")
                offsets[user] = (int(milliseconds), int(rest))
            assert each["type"] != "gap"

    async def come(user: UserId) -> None:
        client = clients[user] = server.parts.connect_enveloped(user=user, live=False)
        client.transport.room = chance.choice([None, 1, 3])
        await asyncio.sleep(0)
        server.resume(client, format_offset(offsets[user]))
        while client.transport.room is not None and chance.random() < 0.9:
            await asyncio.sleep(0)
            client.transport.drain(chance.choice([1, 2, None]))
        client.transport.drain(None)

    async def send() -> None:
        for value in range(60):
            receivers = chance.sample(users, chance.randint(1, len(users)))
            for user in receivers:
                due[user].append(value)
            await server.send(ToUsers(users=receivers, message=number(value)))
            if chance.random() < 0.3:
                await asyncio.sleep(0)

    async def flap(user: UserId) -> None:
        while not sending.done():
            await come(user)
            for _ in range(chance.randint(0, 5)):
                await asyncio.sleep(0)
            leave(user)
            await asyncio.sleep(0)

    sending = asyncio.create_task(send())
    await asyncio.gather(sending, *(flap(user) for user in users))
    for user in users:
        await come(user)
        await answered(clients[user])
        leave(user)
    assert got == due

"""Who is connected."""

import asyncio

import pytest

from push_server.clients.connections import Connection, Connections
from push_server.clients.envelope import Phase, Session
from queue_run.contracts.envelopes import Inbound
from queue_run.contracts.ids import ConnectionId, ServerId, UserId
from tests.unit.push_server.building import new_connection
from tests.unit.recorders import RecordingTransport
from tests.waiting import DEADLINE

ANN, BOB = UserId("ann"), UserId("bob")


@pytest.fixture
def connections() -> Connections:
    return Connections(ServerId("s1"))


def connect(connections: Connections, user: str | None = None) -> Connection:
    connection = new_connection(connections, RecordingTransport(), user=user)
    connections.add(connection)
    return connection


# The index


def test_connections_are_numbered_within_their_server(connections: Connections) -> None:
    assert [connections.new_id(), connections.new_id()] == ["s1-1", "s1-2"]


def test_a_connection_is_found_by_its_id(connections: Connections) -> None:
    connection = connect(connections)
    assert connections.get(connection.id) is connection
    assert connections.get(ConnectionId("s1-99")) is None


def test_connections_are_found_by_their_user(connections: Connections) -> None:
    phone, laptop, other = (connect(connections, user) for user in ("ann", "ann", "bob"))
    connect(connections)
    assert set(connections.of_user(ANN)) == {phone, laptop}
    assert set(connections.of_user(BOB)) == {other}
    assert set(connections.of_users([ANN, BOB])) == {phone, laptop, other}


def test_a_user_without_connections_has_none(connections: Connections) -> None:
    assert list(connections.of_user(ANN)) == []
    assert connections.of_users([ANN, BOB]) == []


def test_removing_ends_both_directions(connections: Connections) -> None:
    connection, other = connect(connections, "ann"), connect(connections, "ann")
    connections.remove(connection)
    assert connections.get(connection.id) is None
    assert set(connections.of_user(ANN)) == {other}
    assert len(connections) == 1


def test_the_last_connection_of_a_user_takes_the_user_with_it(connections: Connections) -> None:
    for _ in range(3):
        connections.remove(connect(connections, "ann"))
    assert connections._by_user == {}
    assert connections._by_id == {}


def test_removing_twice_is_harmless(connections: Connections) -> None:
    connection, other = connect(connections, "ann"), connect(connections, "ann")
    connections.remove(connection)
    connections.remove(connection)
    assert set(connections.of_user(ANN)) == {other}
    assert len(connections) == 1


def test_removing_one_that_was_never_added_is_harmless(connections: Connections) -> None:
    connections.remove(new_connection(connections, RecordingTransport(), user="ann"))
    assert len(connections) == 0


def test_looping_over_connections_survives_their_removal(connections: Connections) -> None:
    for _ in range(5):
        connect(connections, "ann")
    for connection in connections:
        connections.remove(connection)
    assert len(connections) == 0


def test_the_receivers_of_users_are_a_snapshot(connections: Connections) -> None:
    for _ in range(3):
        connect(connections, "ann")
    receivers = connections.of_users([ANN])
    for connection in receivers:
        connections.remove(connection)
    assert len(receivers) == 3


# Waiting for the last to leave


async def test_without_connections_there_is_nothing_to_wait_for(connections: Connections) -> None:
    async with asyncio.timeout(DEADLINE):
        await connections.wait_until_empty(2 * DEADLINE)


async def test_waiting_ends_with_the_last_connection(connections: Connections) -> None:
    first, last = connect(connections), connect(connections)
    waiting = asyncio.create_task(connections.wait_until_empty(2 * DEADLINE))
    await asyncio.sleep(0)
    connections.remove(first)
    await asyncio.sleep(0)
    assert not waiting.done()
    connections.remove(last)
    async with asyncio.timeout(DEADLINE):
        await waiting


async def test_waiting_ends_after_its_seconds(connections: Connections) -> None:
    connect(connections)
    async with asyncio.timeout(DEADLINE):
        await connections.wait_until_empty(0.01)
    assert len(connections) == 1


# One connection


def test_requests_are_numbered_within_their_connection(connections: Connections) -> None:
    connection = connect(connections)
    assert connection.next_request_id() == f"{connection.id}-1"
    assert connection.next_request_id() == f"{connection.id}-2"


def test_a_connection_is_idle_when_no_outcome_is_due(connections: Connections) -> None:
    idle, ordered, unordered = (connect(connections) for _ in range(3))
    ordered.lane.add(Inbound(id=ordered.next_request_id(), text="x"))
    unordered.unordered.add(unordered.next_request_id())
    assert [each.idle for each in (idle, ordered, unordered)] == [True, False, False]


async def test_a_pause_lasts_until_it_is_ended(connections: Connections) -> None:
    connection = connect(connections)
    pause = connection.pause()
    assert connection.pause() is pause
    assert (connection.paused, pause.done()) == (True, False)
    connection.read_on()
    assert not connection.paused
    await pause


async def test_reading_on_without_a_pause_is_harmless(connections: Connections) -> None:
    connection = connect(connections)
    connection.read_on()
    pause = connection.pause()
    pause.cancel()
    connection.read_on()
    assert not connection.paused


async def test_closing_begins_once_and_ends_the_pause(connections: Connections) -> None:
    transport = RecordingTransport()
    connection = new_connection(connections, transport)
    pause = connection.pause()
    connection.close(1001, "bye")
    connection.close(1000, "again")
    assert transport.closed == [(1001, "bye")]
    assert connection.closing
    assert pause.done()


def test_what_is_written_to_a_corked_connection_leaves_in_one_piece() -> None:
    transport = RecordingTransport()
    connection = new_connection(Connections(ServerId("s1")), transport)
    connection.cork()
    connection.write(b"a")
    connection.cork()
    connection.write(b"b")
    assert transport.frames == []
    connection.uncork()
    connection.uncork()
    connection.write(b"c")
    assert transport.frames == [b"ab", b"c"]


def test_closing_sends_what_was_kept_back_before_it() -> None:
    transport = RecordingTransport()
    connection = new_connection(Connections(ServerId("s1")), transport)
    connection.cork()
    connection.write(b"a")
    connection.close(1000, "bye")
    connection.write(b"b")
    connection.uncork()
    assert transport.frames == [b"a"]


def test_a_connection_is_shown_with_its_user(connections: Connections) -> None:
    assert str(connect(connections, "ann")) == "s1-1 (user ann)"
    assert str(connect(connections)) == "s1-2"


# Whoever wants to know which users are here


class Observer:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def arrived(self, user: UserId) -> None:
        self.seen.append(f"+{user}")

    def left(self, user: UserId) -> None:
        self.seen.append(f"-{user}")


def test_a_users_first_connection_and_the_end_of_the_last_are_told() -> None:
    observer = Observer()
    connections = Connections(ServerId("s1"), observer)
    phone, laptop = connect(connections, "ann"), connect(connections, "ann")
    anonymous = connect(connections)
    assert observer.seen == ["+ann"]
    for connection in (phone, phone, anonymous):
        connections.remove(connection)
    assert observer.seen == ["+ann"]
    connections.remove(laptop)
    connections.remove(laptop)
    connect(connections, "ann")
    assert observer.seen == ["+ann", "-ann", "+ann"]


# Sessions


def enveloped(connections: Connections, session: str) -> Connection:
    connection = new_connection(connections, RecordingTransport())
    connection.session = Session(session, (0, 0))
    connections.add(connection)
    return connection


def test_a_connection_is_found_by_its_session(connections: Connections) -> None:
    one, two = enveloped(connections, "one"), enveloped(connections, "two")
    connect(connections)
    found = [connections.of_session(session) for session in ("one", "two", "three")]
    assert found == [one, two, None]
    connections.remove(one)
    assert connections.of_session("one") is None


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_session_goes_to_who_took_it_over(
    connections: Connections, order: tuple[int, int]
) -> None:
    both = [enveloped(connections, "kept"), enveloped(connections, "new")]
    connections.take_over(both[1], "kept", (7, 0))
    assert connections.of_session("kept") is both[1]
    assert connections.of_session("new") is None
    # The end of the one that had it is no end of the session.
    connections.remove(both[order[0]])
    assert connections.of_session("kept") is (both[1] if order[0] == 0 else None)
    connections.remove(both[order[1]])
    assert connections._by_session == {}


def test_to_take_over_its_own_session_is_harmless(connections: Connections) -> None:
    connection = enveloped(connections, "own")
    connections.take_over(connection, "own", (7, 0))
    assert connections.of_session("own") is connection
    connections.remove(connection)
    assert connections._by_session == {}


def test_answers_wait_until_their_client_is_live(connections: Connections) -> None:
    connection = enveloped(connections, "s")
    assert isinstance(connection.transport, RecordingTransport)
    assert connection.session is not None
    for phase in (Phase.HELD, Phase.REPLAYING):
        connection.session.phase = phase
        connection.answer(b"later")
    connection.write(b"at once")
    assert connection.transport.frames == [b"at once"]
    connection.session.phase = Phase.LIVE
    connection.answer(b"now")
    assert connection.transport.frames == [b"at once", b"now"]
    assert connection.session.held_frames == [b"later", b"later"]


async def test_a_client_that_was_not_read_counts_as_heard_when_it_is_again(
    connections: Connections,
) -> None:
    connection = connect(connections)
    connection.heard = False
    connection.read_on()
    assert not connection.heard
    connection.pause()
    connection.read_on()
    assert connection.heard

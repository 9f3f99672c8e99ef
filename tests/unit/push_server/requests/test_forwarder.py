"""Requests on their way to workers, and outcomes on their way to clients."""

import asyncio
import time
from collections.abc import Awaitable

import pytest

from push_server.clients.envelope import Asked
from push_server.clients.plain import message_frame
from push_server.requests.claims import Holder
from push_server.requests.forwarder import NO_ANSWER, NOT_AVAILABLE, SHUTTING_DOWN
from queue_run.contracts.envelopes import Authenticate, Authenticated, Outcome
from queue_run.contracts.ids import ConnectionId, RequestId
from queue_run.contracts.manifest import RouteFacts
from queue_run.contracts.messages import Form, Message
from tests.unit.push_server.building import (
    SERVER,
    Client,
    PushServerParts,
    error_frame,
    push_server,
)
from tests.waiting import DEADLINE, eventually_async

#: A deadline that passes at once, and one that no test lives to see.
SOON, LATE = 0.02, 600.0


def route(pattern: str = "/", *, timeout: float = LATE, ordered: bool = True) -> RouteFacts:
    return RouteFacts(
        pattern=pattern, file="sockets/x.py", fallback=True, timeout=timeout, ordered=ordered
    )


async def impatient(*routes: RouteFacts, **settings: object) -> PushServerParts:
    """A push server whose deadlines pass at once, unless a route has a timeout of its own."""
    return await push_server(*(routes or (route(timeout=SOON),)), deadline_grace=SOON, **settings)


def text(data: str) -> bytes:
    return message_frame(Message(Form.TEXT, data.encode()))


def number(connection: ConnectionId, request: int) -> RequestId:
    return RequestId(f"{connection}-{request}")


def send(server: PushServerParts, client: Client, *data: str | bytes) -> Awaitable[None] | None:
    """Receive frames as from a socket; what the last of them makes its reader wait for."""
    waiting = None
    for each in data:
        waiting = server.forwarder.receive(client.connection, each)
    return waiting


def answer(
    server: PushServerParts,
    client: Client,
    request: int,
    reply: str | None = None,
    error: str | None = None,
) -> None:
    """Settle a request as its worker does; requests are numbered from 1."""
    server.forwarder.settle(
        Outcome(
            connection=client.connection.id,
            request=number(client.connection.id, request),
            reply=Message(Form.TEXT, reply.encode()) if reply is not None else None,
            error=error,
        )
    )


async def got(client: Client, *frames: bytes) -> None:
    """Wait until the client has exactly these frames."""
    await eventually_async(lambda: len(client.frames) >= len(frames), what=f"{len(frames)} frames")
    assert client.frames == list(frames)


# To workers


async def test_a_request_leaves_at_once_with_all_that_its_worker_needs() -> None:
    server = await push_server()
    client = server.connect("/chat", user="ann", query="room=1")
    before = time.time()
    send(server, client, "hi")
    [turn] = server.dispatcher.whole_turns
    assert turn.connection == client.connection.id
    assert (turn.path, turn.query) == ("/chat", "room=1")
    assert bytes(turn.user) == b'{"id":"ann"}'
    assert [(each.id, each.data) for each in turn.requests] == [
        (number(client.connection.id, 1), "hi")
    ]
    allowed = 60 + server.settings.deadline_grace
    assert before + allowed <= turn.expires <= time.time() + allowed


async def test_while_a_turn_is_with_a_worker_what_comes_waits_and_leaves_together() -> None:
    server = await push_server()
    client = server.connect()
    send(server, client, "a", "b", b"c")
    assert server.dispatcher.turns == [["a"]]
    answer(server, client, 1)
    assert server.dispatcher.turns == [["a"], ["b", b"c"]]
    send(server, client, "d")
    answer(server, client, 2)
    assert len(server.dispatcher.turns) == 2
    answer(server, client, 3)
    assert server.dispatcher.turns[2:] == [["d"]]


async def test_connections_do_not_wait_for_each_other() -> None:
    server = await push_server()
    ann, bob = server.connect(), server.connect()
    send(server, ann, "a")
    send(server, bob, "b")
    assert server.dispatcher.turns == [["a"], ["b"]]


async def test_an_unordered_route_waits_for_nothing() -> None:
    server = await push_server()
    client = server.connect("/unordered")
    send(server, client, "a", "b", "c")
    assert server.dispatcher.turns == [["a"], ["b"], ["c"]]


async def test_without_a_route_a_message_is_not_available() -> None:
    server = await push_server(route("/chat"))
    client = server.connect("/else")
    send(server, client, "a")
    assert client.frames == [error_frame(NOT_AVAILABLE)]
    assert server.dispatcher.work == []
    assert client.connection.idle


async def test_without_workers_a_message_is_not_available() -> None:
    server = await push_server()
    client = server.connect()
    await server.lose_workers()
    send(server, client, "a")
    assert client.frames == [error_frame(NOT_AVAILABLE)]


async def test_when_workers_go_what_waits_is_not_available() -> None:
    server = await push_server()
    client = server.connect()
    send(server, client, "a", "b", "c")
    await server.lose_workers()
    answer(server, client, 1, "A")
    assert client.frames == [text("A"), *[error_frame(NOT_AVAILABLE)] * 2]
    assert client.connection.idle


# To clients


async def test_a_reply_goes_to_its_connection_alone() -> None:
    server = await push_server()
    client, other = server.connect(user="ann"), server.connect(user="ann")
    send(server, client, "a")
    answer(server, client, 1, "A")
    assert client.frames == [text("A")]
    assert other.frames == []


async def test_an_error_goes_to_its_connection() -> None:
    server = await push_server()
    client = server.connect()
    send(server, client, "a")
    answer(server, client, 1, error="failed")
    assert client.frames == [error_frame("failed")]


async def test_an_outcome_without_a_reply_sends_nothing_and_lets_the_lane_go_on() -> None:
    server = await push_server()
    client = server.connect()
    send(server, client, "a", "b")
    answer(server, client, 1)
    assert client.frames == []
    assert server.dispatcher.turns == [["a"], ["b"]]


async def test_replies_come_in_the_order_of_the_outcomes() -> None:
    server = await push_server()
    client = server.connect()
    send(server, client, "x", "a", "b", "c")
    answer(server, client, 1)
    for request in (2, 3, 4):
        answer(server, client, request, str(request))
    assert client.frames == [text("2"), text("3"), text("4")]


async def test_unordered_replies_pass_each_other() -> None:
    server = await push_server()
    client = server.connect("/unordered")
    send(server, client, "a", "b")
    answer(server, client, 2, "B")
    answer(server, client, 1, "A")
    assert client.frames == [text("B"), text("A")]
    assert client.connection.idle


@pytest.mark.parametrize("path", ["/", "/unordered"])
async def test_the_second_outcome_of_a_request_is_dropped(path: str) -> None:
    server = await push_server()
    client = server.connect(path)
    send(server, client, "a")
    answer(server, client, 1, "A")
    answer(server, client, 1, "A again")
    assert client.frames == [text("A")]


@pytest.mark.parametrize("path", ["/", "/unordered"])
async def test_an_outcome_of_an_unknown_request_is_dropped(path: str) -> None:
    server = await push_server()
    client = server.connect(path)
    send(server, client, "a")
    answer(server, client, 99, "stranger")
    assert client.frames == []
    answer(server, client, 1, "A")
    assert client.frames == [text("A")]


async def test_an_outcome_for_a_client_that_left_is_dropped() -> None:
    server = await push_server()
    client = server.connect()
    send(server, client, "a")
    server.connections.remove(client.connection)
    server.forwarder.forget(client.connection)
    answer(server, client, 1, "A")
    assert client.frames == []


async def test_a_reply_after_the_close_is_not_sent() -> None:
    server = await push_server()
    client = server.connect()
    send(server, client, "a")
    client.connection.close(1000, "done")
    answer(server, client, 1, "A")
    assert client.frames == []


# Backpressure


async def test_a_client_is_read_on_while_its_lane_has_room() -> None:
    server = await push_server(max_lane_requests=3)
    client = server.connect()
    assert send(server, client, "in flight", "one", "two") is None
    assert not client.connection.paused


async def test_a_client_whose_lane_is_full_is_not_read() -> None:
    server = await push_server(max_lane_requests=3)
    client = server.connect()
    pause = send(server, client, "in flight", "one", "two", "three")
    assert pause is not None
    answer(server, client, 1)
    assert not client.connection.paused
    async with asyncio.timeout(DEADLINE):
        await pause


async def test_a_client_whose_lane_is_full_of_bytes_is_not_read() -> None:
    server = await push_server(max_lane_bytes=1024)
    client = server.connect()
    assert send(server, client, "in flight", "x" * 1023) is None
    assert send(server, client, "x") is not None


async def test_a_pause_lasts_until_the_turn_is_over() -> None:
    server = await push_server(max_lane_requests=2)
    client = server.connect()
    send(server, client, "a", "b", "c")
    answer(server, client, 1)
    send(server, client, "d", "e")
    assert client.connection.paused
    answer(server, client, 2)
    assert client.connection.paused
    answer(server, client, 3)
    assert not client.connection.paused


async def test_unordered_requests_have_a_bound_too() -> None:
    server = await push_server(max_lane_requests=2)
    client = server.connect("/unordered")
    assert send(server, client, "a") is None
    assert send(server, client, "b") is not None
    answer(server, client, 2)
    assert not client.connection.paused


async def test_one_client_that_is_not_read_stops_no_other() -> None:
    server = await push_server(max_lane_requests=1)
    greedy, modest = server.connect(), server.connect()
    assert send(server, greedy, "a", "b") is not None
    assert send(server, modest, "a") is None
    assert not modest.connection.paused


# Deadlines


async def test_without_an_outcome_in_time_the_client_gets_an_error() -> None:
    server = await impatient()
    client = server.connect()
    send(server, client, "a")
    await got(client, error_frame(NO_ANSWER))
    assert client.connection.idle


async def test_a_late_outcome_is_dropped() -> None:
    server = await impatient()
    client = server.connect()
    send(server, client, "a")
    await got(client, error_frame(NO_ANSWER))
    answer(server, client, 1, "too late")
    assert client.frames == [error_frame(NO_ANSWER)]


async def test_a_turn_without_an_outcome_is_given_up_as_a_whole() -> None:
    server = await impatient()
    client = server.connect()
    send(server, client, "x", "a", "b")
    answer(server, client, 1)
    await got(client, *[error_frame(NO_ANSWER)] * 2)


async def test_after_a_turn_without_an_outcome_the_next_one_leaves() -> None:
    server = await impatient()
    client = server.connect()
    send(server, client, "a", "b")
    await eventually_async(lambda: len(server.dispatcher.turns) == 2, what="the next turn")
    assert client.frames == [error_frame(NO_ANSWER)]
    assert server.dispatcher.turns == [["a"], ["b"]]


async def test_a_client_that_was_not_read_is_read_on_after_a_turn_without_an_outcome() -> None:
    server = await impatient(max_lane_requests=1)
    client = server.connect()
    pause = send(server, client, "a", "b")
    assert pause is not None
    async with asyncio.timeout(DEADLINE):
        await pause


async def test_the_deadline_is_the_routes_timeout_and_the_grace() -> None:
    server = await impatient(route("/slow"), route("/quick", timeout=SOON))
    slow, quick = server.connect("/slow"), server.connect("/quick")
    send(server, slow, "a")
    send(server, quick, "b")
    await got(quick, error_frame(NO_ANSWER))
    assert slow.frames == []
    assert not slow.connection.idle


async def test_each_request_of_a_turn_has_the_routes_time() -> None:
    """The deadline of the second begins with the outcome of the first."""
    server = await impatient()
    client = server.connect()
    send(server, client, "x", "a", "b")
    answer(server, client, 1)
    answer(server, client, 2, "A")
    await got(client, text("A"), error_frame(NO_ANSWER))


async def test_an_outcome_in_time_ends_its_deadline() -> None:
    server = await push_server()
    client = server.connect()
    send(server, client, "x", "a", "b")
    for request in (1, 2, 3):
        assert len(server.forwarder._deadlines) == 1
        answer(server, client, request)
    assert server.forwarder._deadlines == {}


async def test_each_unordered_request_has_its_own_deadline() -> None:
    server = await impatient(route("/", timeout=SOON, ordered=False))
    client = server.connect()
    send(server, client, "a", "b")
    answer(server, client, 1, "A")
    await got(client, text("A"), error_frame(NO_ANSWER))
    assert client.connection.idle


async def test_a_client_that_leaves_takes_its_deadlines_with_it() -> None:
    server = await push_server()
    ordered, unordered = server.connect(), server.connect("/unordered")
    send(server, ordered, "a", "b")
    send(server, unordered, "c", "d")
    for client in (ordered, unordered):
        server.connections.remove(client.connection)
        server.forwarder.forget(client.connection)
        assert client.connection.idle
        assert client.frames == []
    assert server.forwarder._deadlines == {}


async def test_a_reader_that_waits_is_let_go_when_its_client_leaves() -> None:
    server = await push_server(max_lane_requests=1)
    client = server.connect()
    pause = send(server, client, "a", "b")
    assert pause is not None
    server.forwarder.forget(client.connection)
    async with asyncio.timeout(DEADLINE):
        await pause


# Handshakes


def handshake(connection: str = "s1-1") -> Authenticate:
    return Authenticate(
        id=RequestId(f"{connection}-0"),
        server=SERVER,
        path="/",
        headers=[],
        remote_ip="127.0.0.1",
        expires=time.time() + 60,
    )


async def test_a_handshake_is_answered_by_a_worker() -> None:
    server = await push_server()
    asked = handshake()
    waiting = asyncio.create_task(server.forwarder.authenticate(asked))
    await asyncio.sleep(0)
    assert server.dispatcher.work == [asked]
    answered = Authenticated(request=asked.id, status=200, user=b'{"id":"ann"}')
    server.forwarder.authenticated(answered)
    assert await waiting is answered


async def test_handshakes_are_not_confused() -> None:
    server = await push_server()
    one, two = handshake("s1-1"), handshake("s1-2")
    waiting = [asyncio.create_task(server.forwarder.authenticate(each)) for each in (one, two)]
    await asyncio.sleep(0)
    for asked, status in ((two, 402), (one, 401)):
        server.forwarder.authenticated(Authenticated(request=asked.id, status=status))
    assert [each.status for each in await asyncio.gather(*waiting)] == [401, 402]


async def test_a_handshake_has_an_end() -> None:
    server = await push_server(authenticate_timeout=SOON)
    with pytest.raises(TimeoutError):
        await server.forwarder.authenticate(handshake())


async def test_an_answer_that_comes_late_or_twice_is_dropped() -> None:
    server = await push_server()
    asked = handshake()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await server.forwarder.authenticate(asked)
    server.forwarder.authenticated(Authenticated(request=asked.id, status=200))
    waiting = asyncio.create_task(server.forwarder.authenticate(asked))
    await asyncio.sleep(0)
    for status in (200, 500):
        server.forwarder.authenticated(Authenticated(request=asked.id, status=status))
    assert (await waiting).status == 200


async def test_a_client_that_gives_up_its_handshake_leaves_nothing_behind() -> None:
    server = await push_server()
    waiting = asyncio.create_task(server.forwarder.authenticate(handshake()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert server.forwarder._handshakes == {}


# Shutdown


async def drain(server: PushServerParts, seconds: float = LATE) -> "asyncio.Task[None]":
    """Begin to drain."""
    draining = asyncio.create_task(server.forwarder.wind_down(seconds))
    await asyncio.sleep(0)
    return draining


def leave(server: PushServerParts, client: Client) -> None:
    """What follows the closing handshake."""
    server.connections.remove(client.connection)
    server.forwarder.forget(client.connection)


async def test_idle_connections_are_closed_at_once() -> None:
    server = await push_server()
    client = server.connect()
    draining = await drain(server)
    assert client.transport.closed == [(1001, SHUTTING_DOWN)]
    leave(server, client)
    async with asyncio.timeout(DEADLINE):
        await draining


@pytest.mark.parametrize("path", ["/", "/unordered"])
async def test_a_connection_is_closed_after_its_last_outcome(path: str) -> None:
    server = await push_server()
    client = server.connect(path)
    send(server, client, "a", "b")
    draining = await drain(server)
    answer(server, client, 1, "A")
    assert client.transport.closed == []
    answer(server, client, 2, "B")
    assert client.transport.closed == [(1001, SHUTTING_DOWN)]
    assert client.frames == [text("A"), text("B")]
    leave(server, client)
    async with asyncio.timeout(DEADLINE):
        await draining


async def test_while_draining_nothing_more_is_read() -> None:
    server = await push_server()
    client = server.connect()
    send(server, client, "a")
    draining = await drain(server)
    pause = send(server, client, "b")
    assert pause is not None
    answer(server, client, 1, "A")
    assert server.dispatcher.turns == [["a"]]
    async with asyncio.timeout(DEADLINE):
        await pause
    leave(server, client)
    await draining


@pytest.mark.parametrize("path", ["/", "/unordered"])
async def test_requests_without_an_outcome_at_the_end_get_an_error(path: str) -> None:
    server = await push_server()
    client = server.connect(path)
    send(server, client, "a", "b")
    async with asyncio.timeout(DEADLINE):
        await server.forwarder.wind_down(SOON)
    assert client.frames == [error_frame(SHUTTING_DOWN)] * 2
    assert client.transport.closed == [(1001, SHUTTING_DOWN)]
    assert server.forwarder._deadlines == {}


# The envelope protocol


def ask(server: PushServerParts, client: Client, *names: int | str) -> Awaitable[None] | None:
    waiting = None
    for name in names:
        waiting = server.forwarder.ask(client.connection, Asked(name, f'"{name}"'))
    return waiting


async def enveloped(server: PushServerParts, path: str = "/") -> Client:
    client = server.connect_enveloped()
    client.connection.path = path
    return client


def elsewhere(request: str) -> Holder:
    return Holder(RequestId(request), 1)


def answers(client: Client) -> list[tuple[str, int | str]]:
    return [(each["type"], each["id"]) for each in client.told]


async def test_an_enveloped_request_carries_its_session_and_its_name() -> None:
    server = await push_server()
    client = await enveloped(server)
    ask(server, client, 7, "7")
    answer(server, client, 1, "A")
    turns = server.dispatcher.whole_turns
    assert client.connection.session is not None
    assert [turn.session for turn in turns] == [client.connection.session.id] * 2
    assert server.dispatcher.names == [["7"], ['"7"']]
    answer(server, client, 2, error="failed")
    assert client.told == [
        {"type": "reply", "id": 7, "data": "A"},
        {"type": "error", "id": "7", "error": "failed"},
    ]


async def test_a_plain_request_has_no_name() -> None:
    server = await push_server()
    send(server, server.connect(), "a")
    assert server.dispatcher.names == [None]
    assert server.dispatcher.whole_turns[0].session is None


@pytest.mark.parametrize("path", ["/", "/unordered"])
async def test_an_id_that_is_under_way_is_not_taken_again(path: str) -> None:
    server = await push_server()
    client = await enveloped(server, path)
    ask(server, client, 1, 1, 1)
    assert server.dispatcher.turns == [['"1"']]
    answer(server, client, 1, "A")
    assert answers(client) == [("reply", 1)]
    # Afterwards its claim decides.
    ask(server, client, 1)
    assert server.dispatcher.turns == [['"1"'], ['"1"']]


async def test_an_enveloped_request_without_a_route_is_an_error_under_its_id() -> None:
    server = await push_server(route("/chat"))
    client = await enveloped(server, "/else")
    ask(server, client, 7)
    assert client.told == [{"type": "error", "id": 7, "error": NOT_AVAILABLE}]
    assert client.connection.session is not None
    assert client.connection.session.open == set()


async def test_an_outcome_without_a_reply_is_told_to_an_enveloped_client() -> None:
    server = await push_server()
    client = await enveloped(server)
    ask(server, client, 7)
    answer(server, client, 1)
    assert client.told == [{"type": "reply", "id": 7}]


async def test_a_request_that_was_sent_elsewhere_is_looked_for_there() -> None:
    server = await push_server()
    client = await enveloped(server)
    ask(server, client, 1)
    [turn] = server.dispatcher.whole_turns
    before = time.monotonic()
    server.forwarder.held_elsewhere(turn, 0, elsewhere("other-1-1"))
    [(holder, wanted)] = server.late_outcomes.wanted
    assert holder.request == "other-1-1"
    assert (wanted.connection, wanted.request) == (client.connection.id, turn.requests[0].id)
    # Its deadline here is what ends the waiting.
    assert wanted.until >= before + 60 + server.settings.deadline_grace
    answer(server, client, 1, "A")
    assert answers(client) == [("reply", 1)]


async def test_what_follows_one_that_was_sent_elsewhere_waits_for_it() -> None:
    server = await push_server()
    client = await enveloped(server)
    ask(server, client, "first", "a", "b", "c", "d")
    answer(server, client, 1)
    turn = server.dispatcher.whole_turns[1]
    ask(server, client, "e")
    server.forwarder.held_elsewhere(turn, 1, elsewhere("other-1-9"))
    assert len(server.late_outcomes.wanted) == 1
    answer(server, client, 2)
    assert len(server.dispatcher.turns) == 2
    answer(server, client, 3)
    assert server.dispatcher.turns[2:] == [['"c"', '"d"', '"e"']]
    for request in (4, 5, 6):
        answer(server, client, request)
    assert answers(client) == [("reply", each) for each in ("first", *"abcde")]
    assert client.connection.idle
    assert server.forwarder._deadlines == {}


async def test_one_that_was_sent_elsewhere_may_be_answered_before_those_that_go_first() -> None:
    server = await push_server()
    client = await enveloped(server)
    ask(server, client, "first", "a", "b", "c")
    answer(server, client, 1)
    server.forwarder.held_elsewhere(server.dispatcher.whole_turns[1], 1, elsewhere("other-1-9"))
    answer(server, client, 3)
    assert len(server.dispatcher.turns) == 2
    answer(server, client, 2)
    assert server.dispatcher.turns[2:] == [['"c"']]


@pytest.mark.parametrize("path", ["/", "/unordered"])
async def test_one_that_was_sent_elsewhere_and_is_not_found_has_an_end(path: str) -> None:
    server = await impatient(
        route("/", timeout=SOON), route("/unordered", timeout=SOON, ordered=False)
    )
    client = await enveloped(server, path)
    ask(server, client, 1)
    server.forwarder.held_elsewhere(server.dispatcher.whole_turns[0], 0, elsewhere("other-1-9"))
    await eventually_async(lambda: client.told, what="the error")
    assert client.told == [{"type": "error", "id": 1, "error": NO_ANSWER}]
    answer(server, client, 1, "too late")
    assert len(client.told) == 1
    assert client.connection.idle


async def test_one_that_was_given_up_is_not_sent_when_it_is_known_who_has_it() -> None:
    server = await impatient()
    client = await enveloped(server)
    ask(server, client, "first", "a", "b")
    answer(server, client, 1)
    turn = server.dispatcher.whole_turns[1]
    await eventually_async(lambda: len(client.told) == 3, what="the errors")
    server.forwarder.held_elsewhere(turn, 0, elsewhere("other-1-9"))
    assert client.connection.idle
    assert len(server.dispatcher.turns) == 2


async def test_what_was_sent_elsewhere_for_one_that_has_left_is_forgotten() -> None:
    server = await push_server()
    client = await enveloped(server)
    ask(server, client, 1)
    leave(server, client)
    server.forwarder.held_elsewhere(server.dispatcher.whole_turns[0], 0, elsewhere("other-1-9"))
    assert server.late_outcomes.wanted == []


async def test_draining_sends_enveloped_clients_away_and_serves_them_until_they_go() -> None:
    server = await push_server(reconnect_spread=2)
    clients = [await enveloped(server) for _ in range(50)]
    idle = clients.pop()
    for client in clients:
        ask(server, client, 1, 2)
    draining = await drain(server)
    for client in [idle, *clients]:
        [told] = client.told
        assert told["type"] == "reconnect"
        assert 0 <= told["after"] <= 2000
        assert client.transport.closed == []
    assert len({client.told[0]["after"] for client in clients}) > 10
    client = clients[0]
    answer(server, client, 1, "A")
    ask(server, client, 3)
    answer(server, client, 2, "B")
    answer(server, client, 3, "C")
    replies = [(each["type"], each["id"]) for each in client.told[1:]]
    assert replies == [("reply", 1), ("reply", 2), ("reply", 3)]
    for each in [idle, *clients]:
        leave(server, each)
    async with asyncio.timeout(DEADLINE):
        await draining


async def test_an_enveloped_client_that_stays_is_closed_without_an_error() -> None:
    """It gets the outcomes elsewhere."""
    server = await push_server()
    client, plain = await enveloped(server), server.connect()
    ask(server, client, 1, 2)
    send(server, plain, "a")
    async with asyncio.timeout(DEADLINE):
        await server.forwarder.wind_down(SOON)
    assert [each["type"] for each in client.told] == ["reconnect"]
    assert client.transport.closed == [(1012, SHUTTING_DOWN)]
    assert plain.transport.closed == [(1001, SHUTTING_DOWN)]
    leave(server, client)
    assert server.forwarder._deadlines == {}

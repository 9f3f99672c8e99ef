"""From an open socket to a connection, and to its end; on real pairs of sockets."""

import asyncio
import gc
import socket
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPServerRequest,
    RequestStartLine,
)

from push_server.clients.connections import Connection
from push_server.http.reception import UNAUTHORIZED, Guest, Reception
from push_server.rfc6455.close_frames import close_frame
from push_server.transport.wire import Wire
from queue_run.contracts.envelopes import Admitted, Authenticate, Authenticated
from queue_run.contracts.ids import UserId
from tests.unit.push_server.building import PushServerParts, push_server, services
from tests.unit.push_server.frames import client_close, client_frame
from tests.waiting import DEADLINE, eventually_async

FIRST = b"101"
ANN = Admitted(b'{"id":"ann"}', None)


class House:
    """A reception, with one client at its door."""

    def __init__(self, parts: PushServerParts) -> None:
        self.parts = parts
        self.services = services(parts)
        self.reception = Reception(self.services)
        ours, self.client = socket.socketpair()
        for each in (ours, self.client):
            each.setblocking(False)
        self.id = parts.connections.new_id()
        self.wire = Wire(ours, self.reception.limits, owner=self.id, first=FIRST)

    def enter(
        self, answer: Admitted | None = None, *, path: str = "/", enveloped: bool = False
    ) -> Connection:
        self.reception.enter(
            self.wire, self.id, answer, path=path, query="a=1", enveloped=enveloped
        )
        self.wire.start()
        [connection] = self.parts.connections
        return connection

    def wait_for_token(self, request: HTTPServerRequest) -> None:
        Guest(self.reception, self.wire, self.id, request, enveloped=False).expect_token()
        self.wire.start()

    async def asked(self) -> Authenticate:
        """The question to the workers."""
        work = self.parts.dispatcher.work
        await eventually_async(lambda: work, what="a question to the workers")
        question = work.pop()
        assert isinstance(question, Authenticate)
        return question

    async def rest(self) -> bytes:
        """What the client gets, up to the end."""
        got = bytearray()
        async with asyncio.timeout(DEADLINE):
            while chunk := await asyncio.get_running_loop().sock_recv(self.client, 65_536):
                got += chunk
        return bytes(got)

    async def emptied(self) -> None:
        await eventually_async(lambda: len(self.parts.connections) == 0, what="the end")

    async def end(self) -> None:
        self.client.close()
        if not self.wire.over:
            self.wire.abort("the test is over")
        await asyncio.sleep(0)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House(await push_server())
    yield made
    await made.end()


@pytest.fixture
async def hasty_house() -> AsyncIterator[House]:
    """One where nobody waits for long."""
    made = House(await push_server(authenticate_timeout=0.02))
    yield made
    await made.end()


def request(**headers: str) -> HTTPServerRequest:
    class Context:
        remote_ip = "192.0.2.1"
        protocol = "http"

    class Http:
        context = Context()

        def set_close_callback(self, callback: Any) -> None:
            """Nobody calls it."""

    return HTTPServerRequest(
        start_line=RequestStartLine("GET", "/chat?a=1", "HTTP/1.1"),
        headers=HTTPHeaders({"Host": "x", **headers}),
        connection=cast("HTTPConnection", Http()),
    )


# Who comes in


async def test_without_authentication_it_is_nobody(house: House) -> None:
    connection = house.enter(path="/chat")
    assert (connection.id, connection.path, connection.query) == (house.id, "/chat", "a=1")
    assert (bytes(connection.user), connection.user_id) == (b"null", None)


async def test_it_is_who_the_workers_say(house: House) -> None:
    connection = house.enter(ANN)
    assert (bytes(connection.user), connection.user_id) == (b'{"id":"ann"}', "ann")
    assert house.parts.connections.of_user(UserId("ann")) == {connection}
    assert str(house.wire.owner) == "s1-1 (user ann)"


async def test_the_workers_may_say_that_it_is_nobody(house: House) -> None:
    connection = house.enter(Admitted(None, None))
    assert (bytes(connection.user), connection.user_id) == (b"null", None)


async def test_the_answer_to_the_handshake_comes_before_the_welcome(house: House) -> None:
    house.enter(enveloped=True)
    got = house.client.recv(4096)
    assert got.startswith(FIRST + b"\x81")
    assert b'"type":"welcome"' in got


async def test_paths_are_kept_once(house: House) -> None:
    other = House(house.parts)
    for each in (house, other):
        path = "/".join(["", "chat", "room"])
        each.reception.enter(each.wire, each.id, None, path=path, query="", enveloped=False)
        each.wire.start()
    first, second = house.parts.connections
    assert first.path is second.path
    await other.end()


async def test_a_token_that_expires_ends_the_connection(house: House) -> None:
    connection = house.enter(Admitted(b'{"id":"ann"}', time.time() + 0.02))
    await eventually_async(lambda: connection.closing, what="the expiry")
    house.client.send(client_close(UNAUTHORIZED))
    assert await house.rest() == FIRST + close_frame(UNAUTHORIZED, "the token has expired")


async def test_one_that_has_expired_does_at_once(house: House) -> None:
    house.enter(Admitted(b'{"id":"ann"}', 1.0))
    house.client.send(client_close(UNAUTHORIZED))
    await house.emptied()


async def test_a_client_that_has_left_before_the_first_byte_leaves_nothing(house: House) -> None:
    house.client.close()
    connection = house.enter(ANN)
    await house.emptied()
    assert connection.slot is None
    assert house.wire.over


# What they say


async def test_a_message_is_a_request(house: House) -> None:
    connection = house.enter()
    connection.heard = False
    house.client.send(client_frame("hello"))
    await eventually_async(lambda: house.parts.dispatcher.work, what="the request")
    [turn] = house.parts.dispatcher.whole_turns
    assert turn.requests[0].data == "hello"
    assert connection.heard


async def test_any_frame_is_a_sign_of_life(house: House) -> None:
    connection = house.enter()
    for opcode in (9, 10):
        connection.heard = False
        house.client.send(client_frame(b"", opcode=opcode))
        await eventually_async(lambda: connection.heard, what="the client to be heard")


# That they have left


async def test_who_has_left_is_forgotten_with_all_that_it_had(house: House) -> None:
    connection = house.enter(ANN, enveloped=True)
    assert connection.session is not None
    session = connection.session.id
    house.client.send(client_frame('{"id": 1, "data": 1}'))
    await eventually_async(lambda: house.parts.forwarder._deadlines, what="the request")
    house.client.close()
    await house.emptied()
    assert house.parts.forwarder._deadlines == {}
    assert house.parts.connections.of_session(session) is None
    assert connection.closing
    assert connection.slot is None


async def test_nothing_of_it_stays(house: House) -> None:
    connection_id = house.enter(ANN).id
    house.client.close()
    await house.emptied()
    gc.collect()
    left = [each for each in gc.get_objects() if isinstance(each, Connection)]
    assert connection_id not in [each.id for each in left]


# Guests


async def test_a_guest_that_tells_its_token_becomes_a_connection(house: House) -> None:
    house.wait_for_token(request(Cookie="b=2"))
    assert len(house.parts.connections) == 0
    house.client.send(client_frame("token") + client_frame("first message"))
    question = await house.asked()
    assert question.message is not None
    assert question.message.data == "token"
    assert ("Cookie", "b=2") in question.headers
    # What it says meanwhile waits.
    assert house.parts.dispatcher.work == []
    house.parts.forwarder.authenticated(
        Authenticated(request=question.id, status=200, user=b'{"id":"ann"}')
    )
    await eventually_async(lambda: house.parts.dispatcher.work, what="the first message")
    [connection] = house.parts.connections
    assert (connection.user_id, connection.path, connection.query) == ("ann", "/chat", "a=1")
    # The time for a token is no limit any more.
    assert house.wire._time_limit is None


async def test_what_a_guest_brought_is_not_kept_when_it_is_a_connection(house: House) -> None:
    brought = request()
    gone = weakref.ref(brought)
    house.wait_for_token(brought)
    del brought
    house.client.send(client_frame("token"))
    question = await house.asked()
    house.parts.forwarder.authenticated(
        Authenticated(request=question.id, status=200, user=b'{"id":"ann"}')
    )
    await eventually_async(lambda: len(house.parts.connections), what="the connection")
    gc.collect()
    is_gone = gone() is None
    assert is_gone


async def test_a_guest_without_a_token_is_sent_away(hasty_house: House) -> None:
    hasty_house.wait_for_token(request())
    await eventually_async(lambda: hasty_house.wire._state.name == "CLOSING", what="the close")
    # Too late.
    hasty_house.client.send(client_frame("token") + client_close(UNAUTHORIZED))
    assert await hasty_house.rest() == FIRST + close_frame(UNAUTHORIZED, "no token came in time")
    assert hasty_house.parts.dispatcher.work == []


async def test_a_guest_with_a_wrong_token_is_told_why(house: House) -> None:
    house.wait_for_token(request())
    house.client.send(client_frame("wrong"))
    question = await house.asked()
    house.parts.forwarder.authenticated(
        Authenticated(request=question.id, status=401, reason="who are you?")
    )
    await eventually_async(lambda: house.wire._state.name == "CLOSING", what="the close")
    house.client.send(client_frame("again") + client_close(UNAUTHORIZED))
    assert await house.rest() == FIRST + close_frame(UNAUTHORIZED, "who are you?")
    assert len(house.parts.connections) == 0


async def test_a_guest_is_asked_to_come_back_when_nobody_answers(hasty_house: House) -> None:
    hasty_house.wait_for_token(request())
    hasty_house.client.send(client_frame("token"))
    await eventually_async(lambda: hasty_house.wire._state.name == "CLOSING", what="the close")
    hasty_house.client.send(client_close(1013))
    assert await hasty_house.rest() == FIRST + close_frame(1013, "no worker answered in time")


async def test_a_guest_that_has_left_makes_no_connection(house: House) -> None:
    house.wait_for_token(request())
    house.client.send(client_frame("token"))
    question = await house.asked()
    house.wire.abort("it has left")
    house.parts.forwarder.authenticated(
        Authenticated(request=question.id, status=200, user=b'{"id":"ann"}')
    )
    await eventually_async(lambda: not house.parts.forwarder._handshakes, what="the answer")
    await asyncio.sleep(0)
    assert len(house.parts.connections) == 0

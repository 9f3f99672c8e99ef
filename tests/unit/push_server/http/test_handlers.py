"""The HTTP side, on a real server and with real clients; the test speaks for the workers."""

import asyncio
import contextlib
import gc
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tornado import web
from tornado.http1connection import HTTP1Connection
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from push_server.clients.connections import Connection
from push_server.http.handlers import (
    HealthHandler,
    PublicFileHandler,
    ReadyHandler,
    SocketHandler,
)
from push_server.http.reception import Reception
from push_server.transport.lag import LagMonitor
from queue_run.channel.listener import State
from queue_run.contracts.envelopes import Authenticate, Authenticated, Outcome
from queue_run.contracts.ids import ConnectionId, RequestId
from queue_run.contracts.messages import Form, Message
from tests.clients import connected
from tests.unit.push_server.building import INDEX, SERVER, PushServerParts, readiness_of, services
from tests.unit.push_server.frames import client_frame
from tests.waiting import DEADLINE, eventually_async


class Site:
    """A push server's HTTP side on a port of its own."""

    def __init__(self, parts: PushServerParts, public: Path) -> None:
        self.parts = parts
        self.services = services(parts)
        self.lifetime, self.listener, readiness = readiness_of(parts)
        self._server = HTTPServer(
            web.Application(
                [
                    ("/healthz", HealthHandler, {"lag": LagMonitor()}),
                    ("/readyz", ReadyHandler, {"readiness": readiness}),
                    ("/public/(.*)", PublicFileHandler, {"path": str(public)}),
                    ("/.*", SocketHandler, {"reception": Reception(self.services)}),
                ],
            )
        )
        sockets = bind_sockets(0, "127.0.0.1")
        self._server.add_sockets(sockets)
        self.address = f"127.0.0.1:{sockets[0].getsockname()[1]}"

    def ws(self, path: str = "/") -> str:
        return f"ws://{self.address}{path}"

    async def get(self, path: str) -> HTTPResponse:
        return await AsyncHTTPClient().fetch(f"http://{self.address}{path}", raise_error=False)

    async def end(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()


NewSite = Callable[..., "contextlib.AbstractAsyncContextManager[Site]"]


@pytest.fixture
def site(tmp_path: Path) -> NewSite:
    @contextlib.asynccontextmanager
    async def make(*, known: bool = True, **options: Any) -> AsyncIterator[Site]:
        parts = PushServerParts(INDEX, **options)
        if known:
            await parts.application.refresh()
        made = Site(parts, tmp_path)
        try:
            yield made
        finally:
            await made.end()

    return make


@contextlib.asynccontextmanager
async def raw(site: Site) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that speaks byte by byte."""
    reader, writer = await asyncio.open_connection(*site.address.split(":"))
    try:
        yield reader, writer
    finally:
        writer.close()


def handshake_of(site: Site) -> bytes:
    return (
        f"GET / HTTP/1.1\r\nHost: {site.address}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


async def refusal(site: Site, path: str = "/", **options: Any) -> tuple[int, str]:
    """Status and text with which a handshake is answered."""
    with pytest.raises(InvalidStatus) as caught:
        async with connected(site.ws(path), **options):
            pass
    response = caught.value.response
    return response.status_code, (response.body or b"").decode()


async def asked(site: Site) -> Authenticate:
    """The next handshake that a worker is asked about."""
    work = site.parts.dispatcher.work
    await eventually_async(lambda: work, what="a question to the workers")
    handshake = work.pop(0)
    assert isinstance(handshake, Authenticate)
    return handshake


async def connections_of(site: Site) -> list[Connection]:
    """The connections, once there are any."""
    await eventually_async(lambda: len(site.parts.connections), what="a connection")
    return list(site.parts.connections)


def reply(site: Site, request: RequestId, text: str) -> None:
    site.parts.forwarder.settle(
        Outcome(
            connection=ConnectionId(request.rpartition("-")[0]),
            request=request,
            reply=Message(Form.TEXT, text.encode()),
        )
    )


# Messages


async def test_a_message_goes_to_the_workers_and_its_reply_comes_back(site: NewSite) -> None:
    async with site() as here, connected(here.ws("/chat?room=1")) as client:
        await client.send("hello")
        dispatcher = here.parts.dispatcher
        await eventually_async(lambda: dispatcher.work, what="the request")
        [turn] = dispatcher.whole_turns
        assert (turn.path, turn.query, turn.requests[0].data) == ("/chat", "room=1", "hello")
        reply(here, turn.requests[0].id, "hi")
        assert await client.receive_raw() == "hi"


async def test_a_connection_is_known_while_it_is_open(site: NewSite) -> None:
    async with site() as here:
        connections = here.parts.connections
        async with connected(here.ws()):
            assert len(connections) == 1
            assert [connection.id for connection in connections] == ["s1-1"]
        await eventually_async(lambda: len(connections) == 0, what="the end of the connection")


async def test_a_client_that_vanishes_is_forgotten_with_its_requests(site: NewSite) -> None:
    async with site() as here:
        async with connected(here.ws()) as client:
            await client.send("hello")
            await eventually_async(lambda: here.parts.dispatcher.work, what="the request")
            client.connection.transport.abort()
        parts = here.parts
        await eventually_async(lambda: len(parts.connections) == 0, what="the end")
        assert parts.forwarder._deadlines == {}


async def test_a_connection_that_is_closed_from_here_tells_its_client_why(site: NewSite) -> None:
    async with site() as here, connected(here.ws()) as client:
        for connection in here.parts.connections:
            connection.close(4001, "moved")
        assert await client.closed() == (4001, "moved")
        await eventually_async(lambda: len(here.parts.connections) == 0, what="the end")


async def test_a_client_that_is_dropped_gets_no_close_frame(site: NewSite) -> None:
    async with site() as here, connected(here.ws()) as client:
        for connection in here.parts.connections:
            connection.transport.abort("too slow")
        assert (await client.closed())[0] == 1006


async def test_a_ping_is_answered_and_noted(site: NewSite) -> None:
    async with site() as here, connected(here.ws()):
        [connection] = here.parts.connections
        connection.heard = False
        connection.transport.ping()
        await eventually_async(lambda: connection.heard, what="the pong")


async def test_a_ping_or_close_after_the_end_is_no_error(site: NewSite) -> None:
    async with site() as here:
        async with connected(here.ws()):
            [connection] = here.parts.connections
        await eventually_async(lambda: len(here.parts.connections) == 0, what="the end")
        connection.transport.ping()
        connection.transport.write(b"\x81\x02hi")
        connection.transport.close(1000, "")


async def test_while_a_lane_is_full_its_client_is_not_read(site: NewSite) -> None:
    async with site(max_lane_requests=1) as here, connected(here.ws()) as client:
        for number in range(5):
            await client.send(str(number))
        [connection] = here.parts.connections
        await eventually_async(lambda: connection.paused, what="the pause")
        dispatcher = here.parts.dispatcher
        for number in range(5):
            await eventually_async(lambda: dispatcher.work, what="the next turn")
            [turn] = dispatcher.whole_turns
            assert [each.data for each in turn.requests] == [str(number)]
            dispatcher.work.clear()
            reply(here, turn.requests[0].id, f"reply {number}")
            assert await client.receive_raw() == f"reply {number}"


async def test_a_message_beyond_the_limit_closes_with_1009(site: NewSite) -> None:
    async with site(max_request_bytes=1024) as here, connected(here.ws()) as client:
        await client.send("x" * 1025)
        assert (await client.closed())[0] == 1009


async def test_nothing_is_compressed(site: NewSite) -> None:
    async with site() as here, connected(here.ws(), compression="deflate") as client:
        assert client.connection.protocol.extensions == []


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\x03", 1002), (b"\x03\xed", 1002), (b"\x03\xe8\xff", 1007)]
)
async def test_a_malformed_close_frame_is_answered_by_the_letter(
    site: NewSite, payload: bytes, code: int
) -> None:
    async with site() as here, raw(here) as (reader, writer):
        async with asyncio.timeout(DEADLINE):
            writer.write(handshake_of(here))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(client_frame(payload, opcode=8))
            answer = await reader.readexactly(4)
        assert answer[0] == 0x88
        assert int.from_bytes(answer[2:4], "big") == code


# The handshake


async def test_a_client_need_not_wait_for_the_answer_to_its_handshake(site: NewSite) -> None:
    async with site() as here, raw(here) as (reader, writer):
        writer.write(handshake_of(here) + client_frame("early") + client_frame("next"))
        async with asyncio.timeout(DEADLINE):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        dispatcher = here.parts.dispatcher
        await eventually_async(lambda: dispatcher.work, what="the request")
        assert dispatcher.whole_turns[0].requests[0].data == "early"


async def test_a_connection_that_was_kept_alive_may_become_a_websocket(site: NewSite) -> None:
    async with site() as here, raw(here) as (reader, writer):
        async with asyncio.timeout(DEADLINE):
            writer.write(f"GET /healthz HTTP/1.1\r\nHost: {here.address}\r\n\r\n".encode())
            assert await reader.readuntil(b"}}")
            writer.write(handshake_of(here))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(client_frame(b"data", opcode=9))
            assert await reader.readexactly(6) == b"\x8a\x04data"


async def test_of_the_handshake_nothing_is_kept(site: NewSite) -> None:
    kinds = (HTTPServerRequest, HTTPHeaders, IOStream, HTTP1Connection, SocketHandler)

    def count() -> int:
        return sum(isinstance(each, kinds) for each in gc.get_objects())

    async with site() as here:
        gc.collect()
        gc.disable()
        try:
            before = count()
            async with connected(here.ws("/chat?a=1")) as client:
                await client.connection.ping()
                await connections_of(here)
                # The coroutines of the HTTP server end in their own time, but they do end.
                await eventually_async(lambda: count() <= before, what="the last of them to go")
                assert here._server._connections == set()
        finally:
            gc.enable()


async def test_a_client_that_leaves_while_it_is_authenticated_leaves_nothing(
    site: NewSite,
) -> None:
    async with site(authenticates=True) as here:
        async with raw(here) as (_, writer):
            writer.write(handshake_of(here))
            handshake = await asked(here)
        await eventually_async(lambda: not here._server._connections, what="the server to see it")
        here.parts.forwarder.authenticated(Authenticated(request=handshake.id, status=200))
        await eventually_async(lambda: not here.parts.forwarder._handshakes, what="the answer")
        await asyncio.sleep(0)
        assert len(here.parts.connections) == 0


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET ", b"POST ", b"405"),
        (b"HTTP/1.1", b"HTTP/1.0", b"400"),
        (b"Connection: Upgrade", b"Connection: close", b"400"),
        (b"Version: 13", b"Version: 8", b"426"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short", b"400"),
    ],
)
async def test_a_handshake_that_is_not_in_order_asks_no_worker(
    site: NewSite, old: bytes, new: bytes, status: bytes
) -> None:
    async with site(authenticates=True) as here, raw(here) as (reader, writer):
        writer.write(handshake_of(here).replace(old, new))
        async with asyncio.timeout(DEADLINE):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.split()[1] == status
        # What would do is said where that is asked for (RFC 6455, 4.4).
        assert (b"Sec-Websocket-Version: 13" in answer) is (status == b"426")
        assert here.parts.dispatcher.work == []


async def test_a_defect_while_it_is_opened_leaves_nothing(
    site: NewSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connection: Connection) -> None:
        raise RuntimeError("a defect")

    async with site() as here:
        monkeypatch.setattr(here.parts.liveness, "add", fail)
        async with raw(here) as (reader, writer):
            writer.write(handshake_of(here))
            async with asyncio.timeout(DEADLINE):
                assert await reader.read() == b""
        await eventually_async(lambda: len(here.parts.connections) == 0, what="the end")
        assert "a defect" in caplog.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("known", [True, False])
async def test_health_can_be_asked_for_without_the_body(
    site: NewSite, path: str, known: bool
) -> None:
    async with site(known=known) as here:
        shown = await here.get(path)
        head = await AsyncHTTPClient().fetch(
            f"http://{here.address}{path}", method="HEAD", raise_error=False
        )
        assert (head.code, head.body) == (shown.code, b"")
        assert head.headers["Content-Type"] == shown.headers["Content-Type"]
        assert abs(int(head.headers["Content-Length"]) - len(shown.body)) < 40


async def test_a_refusal_is_told_with_the_clients_address(
    site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(trusted_proxies="127.0.0.1") as here:
        headers = {"X-Forwarded-For": "203.0.113.5:99", "Origin": "http://[::1"}
        with caplog.at_level(logging.INFO, logger="push_server"):
            answer = await refusal(here, "/chat", additional_headers=headers)
        assert answer == (403, "origin not allowed\n")
    assert "/chat from 203.0.113.5: 403 origin not allowed" in caplog.messages


async def test_a_method_that_nobody_knows_is_no_defect(
    site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    async with site() as here, raw(here) as (reader, writer):
        writer.write(handshake_of(here).replace(b"GET ", b"BREW "))
        async with asyncio.timeout(DEADLINE):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 405 ")
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


# Who is let in


async def test_a_client_that_speaks_is_alive(site: NewSite) -> None:
    async with site() as made, connected(made.ws()) as client:
        [connection] = await connections_of(made)
        connection.heard = False
        await client.send("hi")
        await eventually_async(lambda: connection.heard, what="the client to be heard")


async def test_a_message_after_the_close_is_not_taken(site: NewSite) -> None:
    async with site() as made, connected(made.ws()) as client:
        [connection] = await connections_of(made)
        connection.closing = True
        connection.heard = False
        await client.send("late")
        await eventually_async(lambda: connection.heard, what="the client to be heard")
        assert made.parts.dispatcher.work == []


# The envelope protocol


ENVELOPED: dict[str, Any] = {"subprotocols": ["bearer.x", "queue-run.v1", "other"]}


async def test_a_client_that_offers_the_envelope_protocol_is_welcomed(site: NewSite) -> None:
    async with site() as made, connected(made.ws(), **ENVELOPED) as client:
        assert client.connection.subprotocol == "queue-run.v1"
        welcome = await client.receive()
        [connection] = await connections_of(made)
        assert connection.session is not None
        assert welcome == {
            "type": "welcome",
            "connection": connection.id,
            "session": connection.session.id,
            "user": None,
            "offset": "0-0",
            "epoch": "e1",
            "heartbeat": 25_000,
            "resume": 60_000,
        }


async def test_an_enveloped_request_is_answered_under_its_id(site: NewSite) -> None:
    async with site() as made, connected(made.ws(), **ENVELOPED) as client:
        await client.receive()
        await client.send('{"id": "a", "data": {"text": "hi"}}')
        await eventually_async(lambda: made.parts.dispatcher.work, what="the request")
        [turn] = made.parts.dispatcher.whole_turns
        [inbound] = turn.requests
        assert (inbound.text, inbound.json) == ('{"text": "hi"}', True)
        assert made.parts.dispatcher.names == [['"a"']]
        reply(made, inbound.id, "A")
        assert await client.receive() == {"type": "reply", "id": "a", "data": "A"}


async def test_a_frame_that_means_nothing_costs_nothing_else(site: NewSite) -> None:
    async with site() as made, connected(made.ws(), **ENVELOPED) as client:
        await client.receive()
        await client.send("{")
        error = await client.receive()
        assert (error["type"], error["id"]) == ("error", None)
        await client.send('{"type": "ping"}')
        assert await client.receive() == {"type": "pong"}


async def test_a_request_that_is_under_way_is_not_taken_again(site: NewSite) -> None:
    async with site() as made, connected(made.ws(), **ENVELOPED) as client:
        await client.receive()
        for _ in range(2):
            await client.send('{"id": 1, "data": null}')
        await client.send('{"type": "ping"}')
        assert await client.receive() == {"type": "pong"}
        assert len(made.parts.dispatcher.work) == 1


async def test_a_client_may_resume_as_the_first_thing(site: NewSite) -> None:
    async with site() as made, connected(made.ws(), **ENVELOPED) as client:
        session = (await client.receive())["session"]
        await client.send({"type": "resume", "session": session, "offset": "0-0", "epoch": "e1"})
        assert await client.receive() == {"type": "resumed", "session": session, "offset": "0-0"}


async def test_without_authentication_nobody_is_asked(site: NewSite) -> None:
    async with site() as here, connected(here.ws()):
        [connection] = here.parts.connections
        assert connection.user_id is None
        assert bytes(connection.user) == b"null"
        assert here.parts.dispatcher.work == []


async def test_a_worker_says_who_it_is(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        connecting = asyncio.create_task(
            hold(here, "/chat?token=x", additional_headers=[("Cookie", "a=1"), ("X-More", "yes")])
        )
        handshake = await asked(here)
        assert (handshake.path, handshake.query) == ("/chat", "token=x")
        assert handshake.server == SERVER
        assert handshake.remote_ip == "127.0.0.1"
        assert time.time() < handshake.expires
        headers = {name.lower(): value for name, value in handshake.headers}
        assert (headers["cookie"], headers["x-more"]) == ("a=1", "yes")
        assert len(here.parts.connections) == 0
        here.parts.forwarder.authenticated(
            Authenticated(request=handshake.id, status=200, user=b'{"id":"ann","name":"Ann"}')
        )
        client = await connecting
        [connection] = here.parts.connections
        assert connection.user_id == "ann"
        assert bytes(connection.user) == b'{"id":"ann","name":"Ann"}'
        await client.close()


async def test_a_worker_may_accept_an_anonymous_user(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        connecting = asyncio.create_task(hold(here))
        handshake = await asked(here)
        here.parts.forwarder.authenticated(Authenticated(request=handshake.id, status=200))
        client = await connecting
        [connection] = here.parts.connections
        assert connection.user_id is None
        await client.close()


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        ({"status": 401, "reason": "who are you?"}, 401, "who are you?\n"),
        ({"status": 403}, 403, "not authorized\n"),
        ({"status": 200, "user": b'{"name":"x"}'}, 500, "internal error\n"),
        ({"status": 200, "user": b"{"}, 500, "internal error\n"),
    ],
)
async def test_a_worker_may_refuse(
    site: NewSite, answer: dict[str, Any], status: int, text: str
) -> None:
    async with site(authenticates=True) as here:
        refused = asyncio.create_task(refusal(here))
        handshake = await asked(here)
        here.parts.forwarder.authenticated(Authenticated(request=handshake.id, **answer))
        assert await refused == (status, text)
        assert len(here.parts.connections) == 0


async def test_a_user_that_cannot_be_used_is_refused_after_the_first_message_too(
    site: NewSite,
) -> None:
    async with site(authenticates=True) as here:
        connecting = asyncio.create_task(hold(here))
        handshake = await asked(here)
        here.parts.forwarder.authenticated(Authenticated(request=handshake.id, status=100))
        client = await connecting
        await client.send('{"token": "x"}')
        handshake = await asked(here)
        assert handshake.message is not None
        assert handshake.message.data == '{"token": "x"}'
        here.parts.forwarder.authenticated(
            Authenticated(request=handshake.id, status=200, user=b'{"name":"x"}')
        )
        await asyncio.wait_for(client.wait_closed(), DEADLINE)
        assert (client.close_code, client.close_reason) == (4401, "internal error")
        assert len(here.parts.connections) == 0


async def test_when_no_worker_answers_the_handshake_is_refused(site: NewSite) -> None:
    async with site(authenticates=True, authenticate_timeout=0.05) as here:
        assert await refusal(here) == (503, "no worker answered in time\n")


async def test_handshakes_that_are_given_up_say_that_no_worker_is_left(
    site: NewSite,
) -> None:
    async with site(authenticates=True) as here:
        waiting = asyncio.create_task(refusal(here))
        await asked(here)
        await here.parts.lose_workers()
        here.parts.forwarder.give_up_handshakes()
        assert await waiting == (503, "no worker is there\n")


async def test_when_no_worker_lives_nobody_is_asked(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        await here.parts.lose_workers()
        assert await refusal(here) == (503, "no worker is there\n")
        assert here.parts.dispatcher.work == []


async def test_before_any_worker_has_started_nobody_is_let_in(site: NewSite) -> None:
    async with site(known=False) as here:
        assert await refusal(here) == (503, "no worker is there yet\n")


async def test_without_authentication_clients_are_let_in_while_workers_restart(
    site: NewSite,
) -> None:
    async with site() as here:
        await here.parts.lose_workers()
        async with connected(here.ws()) as client:
            assert await client.ask("hello") == {"error": "not available"}


async def test_during_shutdown_nobody_is_let_in(site: NewSite) -> None:
    async with site() as here:
        here.services.closing = True
        assert await refusal(here) == (503, "the server is shutting down\n")


async def test_a_handshake_that_ends_during_shutdown_is_closed_at_once(site: NewSite) -> None:
    async with site(authenticates=True) as here:
        connecting = asyncio.create_task(until_closed(here))
        handshake = await asked(here)
        here.services.closing = True
        here.parts.forwarder.authenticated(Authenticated(request=handshake.id, status=200))
        assert await connecting == (1001, "the server is shutting down")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://{host}.evil"])
async def test_a_page_of_another_origin_is_refused(site: NewSite, origin: str) -> None:
    async with site() as here:
        origin = origin.format(host=here.address)
        assert await refusal(here, origin=origin) == (403, "origin not allowed\n")


async def test_a_page_of_the_same_origin_is_let_in(site: NewSite) -> None:
    async with site() as here, connected(here.ws(), origin=f"http://{here.address}"):
        assert len(here.parts.connections) == 1


async def test_a_request_that_is_no_websocket_is_told_so(site: NewSite) -> None:
    async with site() as here:
        response = await here.get("/chat")
        assert (response.code, response.body) == (426, b"this address speaks WebSocket\n")


async def test_tokens_in_the_query_are_not_logged(
    site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(known=False) as here:
        with caplog.at_level("DEBUG", logger="push_server"):
            await refusal(here, "/chat?token=hush")
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("push_server")]
    assert any("/chat" in line for line in ours)
    assert not any("hush" in line for line in ours)


# Health, and files


async def test_health_says_that_the_process_answers(site: NewSite) -> None:
    async with site(known=False) as here:
        response = await here.get("/healthz")
        assert response.code == 200
        assert json.loads(response.body) == {
            "status": "ok",
            "loop_lag": {"p50": 0.0, "p99": 0.0, "max": 0.0, "samples": 0},
        }


async def test_readiness_says_that_messages_can_be_answered(site: NewSite) -> None:
    async with site() as here:
        response = await here.get("/readyz")
        assert (response.code, response.body) == (200, b'{"status": "ok", "missing": []}')


async def test_readiness_names_all_that_is_missing(site: NewSite) -> None:
    async with site(known=False) as here:
        here.lifetime.lose("hub")
        here.listener._state = State.AWAY
        response = await here.get("/readyz")
        assert response.code == 503
        assert response.body == (
            b'{"status": "not ready", "missing": ["hub, which ended unexpectedly", '
            b'"shutting down", "Redis", "workers"]}'
        )


async def test_files_of_development_are_always_asked_for_again(
    site: NewSite, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text("<p>hello")
    async with site() as here:
        response = await here.get("/public/page.html")
        headers: HTTPHeaders = response.headers
        assert (response.code, response.body) == (200, b"<p>hello")
        assert headers["Cache-Control"] == "no-cache"


async def hold(site: Site, path: str = "/", **options: Any) -> ClientConnection:
    """A connection that stays open."""
    stack = contextlib.AsyncExitStack()
    client = await stack.enter_async_context(connected(site.ws(path), **options))
    stack.pop_all()
    return client.connection


async def until_closed(site: Site) -> tuple[int, str]:
    async with connected(site.ws()) as client:
        return await client.closed()

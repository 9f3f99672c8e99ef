"""The client against a server that does what the test says."""

import asyncio
import inspect
import itertools
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from queue_run.client import (
    Client,
    ClientClosed,
    ConnectionFailed,
    OutcomeUnknown,
    Rejected,
    RequestFailed,
    connect,
)
from queue_run.client.backoff import Backoff
from queue_run.client.tokens import NoToken
from queue_run.errors import NotEncodable
from tests.processes import environment
from tests.unit.queue_run.client.fake_server import FakeServer, Peer
from tests.waiting import DEADLINE, eventually_async


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@asynccontextmanager
async def connected(
    server: FakeServer, *, welcome: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Client, Peer]]:
    """A client that was greeted, and the server's side of its first connection."""
    options = {"connect_timeout": DEADLINE, **options}
    client = connect(server.url, **options)
    opening = asyncio.create_task(client.open())
    peer = await server.accept()
    assert await peer.welcome(**(welcome or {})) == {"type": "start"}
    await opening
    try:
        yield client, peer
    finally:
        await client.close()


async def again(server: FakeServer, **welcome: Any) -> tuple[Peer, Any]:
    """The server's side of the next connection, and how the client resumes."""
    peer = await server.accept()
    return peer, await peer.welcome(**{"session": "s9", "offset": "90-0", **welcome})


async def resumed(server: FakeServer, offset: str = "90-0") -> Peer:
    """The next connection, with its session taken over and nothing missed."""
    peer, resume = await again(server)
    await peer.send(type="resumed", session=resume["session"], offset=offset)
    return peer


async def take(client: Client, count: int) -> list[Any]:
    messages: list[Any] = []
    async with asyncio.timeout(DEADLINE):
        async for message in client:
            messages.append(message)
            if len(messages) == count:
                break
    return messages


def asking(client: Client, data: object, **options: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(client.request(data, **{"timeout": DEADLINE, **options}))


# Opening.


async def test_it_is_connected_inside_the_block(server: FakeServer) -> None:
    client = connect(server.url, token="secret", headers={"X-Device": "tablet"})
    greeting = asyncio.create_task(_greet(server))
    async with client as entered:
        peer = await greeting
        assert entered is client
        assert (client.connected, client.user, client.session) == (True, "ann", "s1")
        assert (client.offset, client.epoch, client.reconnects) == ("1-0", "e1", 0)
        assert peer.headers["Authorization"] == "Bearer secret"
        assert peer.headers["X-Device"] == "tablet"
    assert not client.connected
    assert await peer.closed() == 1000


async def _greet(server: FakeServer) -> Peer:
    peer = await server.accept()
    await peer.welcome()
    return peer


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refused_client_does_not_try_again(server: FakeServer, status: int) -> None:
    server.refusals = [status]
    with pytest.raises(Rejected, match=f"{status}: not you"):
        await connect(server.url).open()
    assert len(server.attempts) == 1


async def test_a_client_that_is_refused_after_the_handshake_does_not_try_again(
    server: FakeServer,
) -> None:
    opening = asyncio.create_task(connect(server.url).open())
    await (await server.accept()).close(4401, "who are you?")
    with pytest.raises(Rejected, match="4401: who are you"):
        await opening
    assert len(server.attempts) == 1


async def test_other_failures_of_the_first_connection_are_tried_again(server: FakeServer) -> None:
    server.refusals = [503, 503]
    async with connected(server):
        assert len(server.attempts) == 3


async def test_a_first_connection_that_does_not_come_about_fails_in_time(
    server: FakeServer,
) -> None:
    await server.stop()
    with pytest.raises(ConnectionFailed, match=r"no connection to ws://.* within 2 seconds: ."):
        await connect(server.url, connect_timeout=2).open()
    await server.start()


async def test_a_server_of_another_protocol_is_named_in_the_failure() -> None:
    async with FakeServer(subprotocol=None) as server:
        with pytest.raises(ConnectionFailed, match=r"does not speak queue-run\.v1"):
            await connect(server.url, connect_timeout=2).open()


async def test_a_client_can_wait_for_its_first_server_for_ever(server: FakeServer) -> None:
    await server.stop()
    client = connect(server.url, connect_timeout=None)
    opening = asyncio.create_task(client.open())
    await server.start()
    await _greet(server)
    await opening
    await client.close()


async def test_an_opening_that_is_cancelled_leaves_nothing_behind(server: FakeServer) -> None:
    client = connect(server.url)
    opening = asyncio.create_task(client.open())
    peer = await server.accept()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await peer.closed()
    assert len(server.attempts) == 1


@pytest.mark.parametrize("url", ["http://here/chat", "chat", "ws:///chat", ()])
def test_what_is_no_address_is_told_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        connect(url)


def test_an_inbox_has_room_for_a_message() -> None:
    with pytest.raises(ValueError, match="inbox"):
        connect("ws://here/", inbox=0)


async def test_a_client_is_opened_once(server: FakeServer) -> None:
    async with connected(server) as (client, _):
        with pytest.raises(RuntimeError, match="opened once"):
            await client.open()


# Requests.


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ({"data": {"a": 1}}, {"a": 1}),
        ({"data": "x"}, "x"),
        ({"bytes": "AAE="}, b"\0\1"),
        ({}, None),
    ],
)
async def test_a_request_gives_what_its_handler_returned(
    server: FakeServer, reply: dict[str, Any], value: object
) -> None:
    async with connected(server) as (client, peer):
        request = asking(client, {"text": "hi"})
        assert await peer.receive() == {"id": 1, "data": {"text": "hi"}}
        await peer.send(type="reply", id=1, **reply)
        assert await request == value


async def test_bytes_are_asked_as_bytes(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        request = asking(client, b"\0\1")
        assert await peer.receive() == {"id": 1, "bytes": "AAE="}
        await peer.send(type="reply", id=1)
        await request


async def test_a_request_that_failed_raises_the_servers_text(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        request = asking(client, 1)
        await peer.receive()
        await peer.send(type="error", id=1, error="no such room")
        with pytest.raises(RequestFailed, match="no such room"):
            await request


async def test_replies_may_come_in_another_order(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        requests = [asking(client, number) for number in range(3)]
        for _ in requests:
            await peer.receive()
        for number in (3, 1, 2):
            await peer.send(type="reply", id=number, data=number)
        assert await asyncio.gather(*requests) == [1, 2, 3]


async def test_a_request_that_takes_too_long_disturbs_no_other(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        slow = asking(client, "slow", timeout=0.05)
        await peer.receive()
        with pytest.raises(TimeoutError, match=r"no outcome within 0.05 seconds"):
            await slow
        quick = asking(client, "quick")
        await peer.receive()
        await peer.send(type="reply", id=1, data="too late")
        await peer.send(type="reply", id=2, data="in time")
        assert await quick == "in time"


async def test_a_request_that_was_cancelled_is_forgotten(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        request = asking(client, "unwanted")
        await peer.receive()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        peer.cut()
        peer = await resumed(server)
        wanted = asking(client, "wanted")
        assert await peer.receive() == {"id": 2, "data": "wanted"}
        await peer.send(type="reply", id=2)
        await wanted


async def test_what_has_no_json_form_is_told_at_once(server: FakeServer) -> None:
    async with connected(server) as (client, _):
        with pytest.raises(NotEncodable):
            await client.request(object())


async def test_a_request_before_the_client_is_open_says_what_to_do() -> None:
    with pytest.raises(ClientClosed, match="async with connect"):
        await connect("ws://here/").request(1)


async def test_closing_ends_requests_and_later_ones(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        request = asking(client, 1)
        await peer.receive()
        await client.close()
        with pytest.raises(ClientClosed):
            await request
        with pytest.raises(ClientClosed):
            await client.request(2)
        await client.close()


# Messages.


async def test_messages_come_in_their_order_and_kinds(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        await peer.message("2-0", {"a": 1})
        await peer.message("3-0", "text")
        await peer.send(type="message", offset="4-0", bytes="AAE=")
        await peer.send(type="message", data=5)
        assert await take(client, 4) == [{"a": 1}, "text", b"\0\1", 5]
        assert client.offset == "4-0"


async def test_the_iteration_ends_when_the_client_is_closed(server: FakeServer) -> None:
    async with connected(server) as (client, _):
        taking = asyncio.create_task(take(client, 1))
        await asyncio.sleep(0)
        await client.close()
        assert await taking == []


async def test_a_closed_client_gives_no_more_messages(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        await peer.message("2-0", 1)
        await eventually_async(lambda: client.offset == "2-0", what="the message")
        await client.close()
        assert await take(client, 1) == []


async def test_a_refusal_ends_the_iteration_behind_the_messages(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        request = asking(client, "written")
        await peer.receive()
        await peer.message("2-0", 1)
        await peer.close(4401, "the token has expired")
        assert await take(client, 1) == [1]
        with pytest.raises(Rejected, match="expired"):
            await take(client, 1)
        with pytest.raises(OutcomeUnknown, match="expired"):
            await request
        with pytest.raises(Rejected, match="expired"):
            await client.request("later")


async def test_a_client_that_can_get_another_token_does(server: FakeServer) -> None:
    tokens = iter(["first", "second"])

    async def token() -> str:
        return next(tokens)

    async with connected(server, token=token) as (_, peer):
        assert peer.headers["Authorization"] == "Bearer first"
        await peer.close(4401, "the token has expired")
        peer = await resumed(server)
        assert peer.headers["Authorization"] == "Bearer second"


# Reconnects.


async def test_what_was_missed_comes_before_what_follows(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        await peer.message("2-0", "before")
        assert await take(client, 1) == ["before"]
        peer.cut()
        peer, resume = await again(server)
        assert resume == {"type": "resume", "session": "s1", "offset": "2-0", "epoch": "e1"}
        assert not client.connected
        await peer.message("3-0", "missed")
        await peer.send(type="resumed", session="s1", offset="4-0")
        await peer.message("5-0", "after")
        assert await take(client, 2) == ["missed", "after"]
        assert (client.connected, client.session, client.offset) == (True, "s1", "5-0")
        assert client.reconnects == 1


async def test_a_gap_is_told_between_the_messages_around_it(server: FakeServer) -> None:
    seen: list[Any] = []

    async def reload() -> None:
        await asyncio.sleep(0)
        seen.append("gap")

    async with connected(server, on_gap=reload) as (client, peer):
        await peer.message("2-0", "before")
        await peer.send(type="gap", session="s1", offset="9-0", epoch="e2")
        await peer.message("10-0", "after")
        await eventually_async(lambda: client.offset == "10-0", what="the last message")
        assert seen == []
        async for message in client:
            seen.append(message)
            if message == "after":
                break
        assert seen == ["before", "gap", "after"]
        peer.cut()
        _, resume = await again(server)
        assert (resume["offset"], resume["epoch"]) == ("10-0", "e2")


async def test_what_on_gap_raises_reaches_the_one_that_takes_messages(server: FakeServer) -> None:
    def reload() -> None:
        raise LookupError("no state")

    async with connected(server, on_gap=reload) as (client, peer):
        await peer.send(type="gap", session="s1", offset="9-0", epoch="e2")
        await peer.message("10-0", "after")
        with pytest.raises(LookupError, match="no state"):
            await take(client, 1)
        assert await take(client, 1) == ["after"]


async def test_a_gap_that_nobody_asks_about_is_logged(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(server) as (client, peer):
        await peer.send(type="gap", session="s1", offset="9-0", epoch="e2")
        await peer.message("10-0", "after")
        with caplog.at_level(logging.WARNING):
            assert await take(client, 1) == ["after"]
    assert "may have been missed" in caplog.text


async def test_requests_without_reply_are_repeated_in_order(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        requests = [asking(client, number) for number in range(3)]
        for _ in requests:
            await peer.receive()
        await peer.send(type="reply", id=2, data="b")
        assert await requests[1] == "b"
        peer.cut()
        await eventually_async(lambda: not client.connected, what="the loss")
        requests.append(asking(client, 3))
        peer = await resumed(server)
        assert [await peer.receive() for _ in range(3)] == [
            {"id": 1, "data": 0},
            {"id": 3, "data": 2},
            {"id": 4, "data": 3},
        ]
        for number, answer in ((1, "a"), (3, "c"), (4, "d")):
            await peer.send(type="reply", id=number, data=answer)
        assert await asyncio.gather(*requests) == ["a", "b", "c", "d"]


async def test_a_session_that_was_not_taken_over_leaves_outcomes_unknown(
    server: FakeServer,
) -> None:
    async with connected(server) as (client, peer):
        written = asking(client, "written")
        await peer.receive()
        peer.cut()
        await eventually_async(lambda: not client.connected, what="the loss")
        unwritten = asking(client, "not written")
        peer, _ = await again(server, session="s9")
        await peer.send(type="resumed", session="s9", offset="90-0")
        with pytest.raises(OutcomeUnknown):
            await written
        assert await peer.receive() == {"id": 2, "data": "not written"}
        await peer.send(type="reply", id=2)
        await unwritten
        assert client.session == "s9"


async def test_who_was_away_for_too_long_resumes_messages_only(server: FakeServer) -> None:
    async with connected(server, welcome={"resume": 100}) as (client, peer):
        request = asking(client, 1)
        await peer.receive()
        await server.stop()
        await eventually_async(lambda: not client.connected, what="the loss")
        # Known without a server too: the next attempt finds that the time is over.
        with pytest.raises(OutcomeUnknown):
            await request
        await server.start()
        _, resume = await again(server)
        assert resume == {"type": "resume", "session": "s1", "offset": "1-0", "epoch": "e1"}


async def test_a_server_that_is_about_to_end_is_left_in_time(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        request = asking(client, 1)
        await peer.receive()
        closed = asyncio.create_task(peer.closed())
        began = time.monotonic()
        await peer.send(type="reconnect", after=300)
        # It still delivers until then.
        await peer.message("2-0", "still")
        assert await take(client, 1) == ["still"]
        assert client.connected
        assert await closed == 1000
        assert time.monotonic() - began >= 0.3
        peer = await resumed(server, offset="2-0")
        assert await peer.receive() == {"id": 1, "data": 1}
        await peer.send(type="reply", id=1, data="there")
        assert await request == "there"


async def test_a_silent_server_is_left(server: FakeServer) -> None:
    async with connected(server, welcome={"heartbeat": 500}, grace=1) as (client, _):
        # The socket stays open: nothing but the silence says that the server has gone.
        peer = await resumed(server)
        await peer.message("91-0", "back")
        assert await take(client, 1) == ["back"]


async def test_a_server_that_takes_the_socket_and_never_greets_is_left(server: FakeServer) -> None:
    client = connect(server.url, connect_timeout=DEADLINE, grace=1)
    opening = asyncio.create_task(client.open())
    await server.accept()
    await _greet(server)
    await opening
    await client.close()


async def test_the_next_address_is_tried_after_a_failure(server: FakeServer) -> None:
    async with FakeServer() as other, FakeServer() as gone:
        await gone.stop()
        client = connect([gone.url, server.url, other.url], connect_timeout=DEADLINE)
        opening = asyncio.create_task(client.open())
        first = await _greet(server)
        await opening
        first.cut()
        await resumed(other)
        await eventually_async(lambda: client.connected, what="the second server")
        await client.close()
        await gone.start()


async def test_a_request_beyond_the_servers_limit_fails_alone(server: FakeServer) -> None:
    async with connected(server) as (client, peer):
        small, large = asking(client, "small"), asking(client, "large" * 1000)
        await peer.receive()
        await peer.receive()
        await peer.close(1009, "message too big")
        with pytest.raises(RequestFailed, match="larger than the server takes"):
            await large
        peer = await resumed(server)
        assert await peer.receive() == {"id": 1, "data": "small"}
        await peer.send(type="reply", id=1)
        await small


async def test_a_server_that_stays_away_is_tried_less_and_less_often(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.client.backoff.FIRST", 0.05)
    monkeypatch.setattr("queue_run.client.client.Backoff", lambda: Backoff(chance=lambda: 1.0))
    async with connected(server) as (_, peer):
        server.refusals = [503, 503, 503]
        peer.cut()
        await resumed(server)
        pauses = [later - earlier for earlier, later in itertools.pairwise(server.attempts[1:])]
        assert len(pauses) == 3
        assert pauses[0] >= 0.1
        assert pauses[1] >= 0.2
        assert pauses[2] >= 0.4


async def test_a_server_that_sends_everybody_away_at_once_is_tried_with_pauses(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.client.client.Backoff", lambda: Backoff(chance=lambda: 1.0))
    async with connected(server) as (_, peer):
        await peer.send(type="reconnect", after=0)
        await peer.closed()
        closed = time.monotonic()
        await resumed(server)
        assert server.attempts[-1] - closed >= 0.4


async def test_a_connection_that_lasted_begins_the_pauses_anew(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backoff = Backoff(chance=lambda: 0.0)
    monkeypatch.setattr("queue_run.client.client.Backoff", lambda: backoff)
    server.refusals = [503, 503]
    async with connected(server) as (client, peer):
        began, after_two = time.monotonic(), backoff.ceiling
        await eventually_async(
            lambda: time.monotonic() - began > after_two, what="a connection that lasted"
        )
        peer.cut()
        await eventually_async(lambda: not client.connected, what="the loss")
        await resumed(server)
        assert backoff.ceiling < after_two


async def test_hooks_are_called_at_each_change_and_may_fail(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    changes: list[str] = []

    def on_disconnected() -> None:
        changes.append("down")
        raise LookupError("in the hook")

    def on_connected() -> None:
        changes.append("up")

    async with connected(server, on_connected=on_connected, on_disconnected=on_disconnected) as (
        client,
        peer,
    ):
        peer.cut()
        await resumed(server)
        await eventually_async(lambda: client.reconnects == 1, what="the reconnect")
        assert changes == ["up", "down", "up"]
    assert changes == ["up", "down", "up", "down"]
    assert "in the hook" in caplog.text


async def test_a_token_that_cannot_be_got_at_first_is_asked_for_again(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise LookupError("no token")
        return "good"

    async with connected(server, token=token) as (client, peer):
        assert client.connected
        assert peer.headers["Authorization"] == "Bearer good"
    assert asked == 3
    assert caplog.text.count("the function that gives the token failed: LookupError: no tok") == 2


async def test_a_first_connection_without_a_token_fails_in_time(server: FakeServer) -> None:
    async def token() -> str:
        raise LookupError("no token")

    with pytest.raises(ConnectionFailed, match="LookupError: no token") as failure:
        await connect(server.url, token=token, connect_timeout=2).open()
    assert isinstance(failure.value.__cause__, NoToken)
    assert isinstance(failure.value.__cause__.__cause__, LookupError)


def raises() -> str:
    raise RuntimeError("the token server is away")


async def raises_later() -> str:
    await asyncio.sleep(0)
    raise RuntimeError("the token server is away")


async def leaks_a_cancellation() -> str:
    raise asyncio.CancelledError


def gives_nothing() -> Any:
    return None


def gives_a_line() -> str:
    return "secret\r\nX-Admin: yes"


@pytest.mark.parametrize(
    "failing", [raises, raises_later, leaks_a_cancellation, gives_nothing, gives_a_line]
)
async def test_a_token_that_cannot_be_got_once_does_not_end_the_client(
    server: FakeServer, failing: Callable[[], Any]
) -> None:
    answers: list[Callable[[], Any]] = [lambda: "first", failing, lambda: "second"]

    async def token() -> str:
        given = answers.pop(0)()
        return await given if inspect.isawaitable(given) else given  # type: ignore[no-any-return]

    async with connected(server, token=token) as (client, peer):
        waiting = asyncio.create_task(client.request("hi"))
        await peer.receive()
        peer.cut()
        peer = await resumed(server)
        assert peer.headers["Authorization"] == "Bearer second"
        request = await peer.receive()
        await peer.send(type="reply", id=request["id"], data="done")
        assert await asyncio.wait_for(waiting, DEADLINE) == "done"
    assert answers == []


@pytest.mark.parametrize("raises", ["now", "later"])
async def test_a_client_whose_task_ends_leaves_nobody_waiting(
    server: FakeServer, raises: str
) -> None:
    """As it is with an exit of the program: whoever waits is told, as long as the loop runs."""
    ends = iter([] if raises == "now" else ["first"])

    def token() -> str:
        for each in ends:
            return each
        # Which asyncio lets pass, and which ends no test run.
        raise GeneratorExit

    if raises == "now":
        with pytest.raises(ClientClosed, match="GeneratorExit"):
            await connect(server.url, token=token, connect_timeout=DEADLINE).open()
        return
    async with connected(server, token=token) as (client, peer):
        waiting = asking(client, "hi")
        await peer.receive()
        await peer.close(1001)
        with pytest.raises(ClientClosed, match="GeneratorExit"):
            await waiting
        assert await take(client, 1) == []


async def test_what_a_server_says_makes_no_lines_of_its_own_in_the_log(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(server) as (_, peer):
        await peer.close(1011, "x\n2026 ERROR forged\x1b[31m")
        await resumed(server)
    lines = [each.getMessage() for each in caplog.records if "1011" in each.getMessage()]
    assert lines
    assert all(each.isprintable() for each in lines)


async def test_an_address_is_told_without_its_secrets() -> None:
    url = "ws://ann:hush-hush@127.0.0.1:1/?token=hush-hush"
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1") as failure:
        await connect(url, connect_timeout=0.3).open()
    assert "hush" not in str(failure.value)


async def test_a_client_is_closed_while_it_waits_for_a_token(server: FakeServer) -> None:
    asked = asyncio.Event()
    ended: list[str] = []

    async def token() -> str:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return ""

    opening = asyncio.create_task(connect(server.url, token=token).open())
    await asyncio.wait_for(asked.wait(), DEADLINE)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert ended == ["cancelled"]


def test_a_token_that_cannot_be_sent_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="the token cannot be sent"):
        connect("ws://127.0.0.1/", token="two words")


# The inbox.


async def test_a_full_inbox_stops_the_reading(server: FakeServer) -> None:
    async with connected(server, inbox=10) as (client, peer):
        await peer.message("0-0", 0)
        assert await take(client, 1) == [0]
        for number in range(1, 101):
            await peer.message(f"{number}-0", number)
        await eventually_async(lambda: client.offset == "10-0", what="a full inbox")
        await peer.send(type="ping", offset="100-0")
        receiving = asyncio.create_task(peer.receive())
        await asyncio.sleep(0.2)
        assert client.offset == "10-0"
        assert not receiving.done()
        assert await take(client, 100) == list(range(1, 101))
        assert await receiving == {"type": "pong"}


async def test_a_request_in_the_loop_over_messages_is_answered_behind_a_full_inbox(
    server: FakeServer,
) -> None:
    gaps: list[str] = []
    async with connected(server, inbox=10, on_gap=lambda: gaps.append("gap")) as (client, peer):
        await peer.message("0-0", 0)
        assert await take(client, 1) == [0]
        for number in range(1, 101):
            await peer.message(f"{number}-0", number)
        await eventually_async(lambda: client.offset == "10-0", what="a full inbox")
        request = asking(client, "in the loop")
        await peer.receive()
        await peer.send(type="reply", id=1, data="answered")
        assert await request == "answered"
        # Memory stays bounded, and nothing is lost in silence.
        messages = await take(client, 9)
        assert messages == list(range(92, 101))
        assert gaps == ["gap"]


async def test_a_client_that_takes_no_messages_gets_its_replies(server: FakeServer) -> None:
    async with connected(server, inbox=10) as (client, peer):
        for number in range(200):
            await peer.message(f"{number}-0", number)
        await eventually_async(lambda: client.offset == "199-0", what="the last message")
        request = asking(client, 1)
        await peer.receive()
        await peer.send(type="reply", id=1, data="answered")
        assert await request == "answered"


# What it needs.


def test_it_loads_neither_celery_nor_tornado_nor_redis() -> None:
    # `import queue_run` loads redis, for those who send; the client itself must not need it.
    code = (
        "import sys, types\n"
        "package = types.ModuleType('queue_run'); package.__path__ = ['queue_run']\n"
        "sys.modules['queue_run'] = package\n"
        "import queue_run.client\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        cwd=environment()["PYTHONPATH"],
        capture_output=True,
        check=True,
        text=True,
        timeout=DEADLINE,
    )
    loaded = set(ran.stdout.split())
    assert {"queue_run", "websockets", "msgspec"} <= loaded
    assert loaded & {"celery", "kombu", "tornado", "redis", "push_server", "worker"} == set()

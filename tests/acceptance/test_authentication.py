"""Who may connect, and for how long, on real processes."""

import asyncio
import contextlib
import signal
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.acceptance.record import Record
from tests.clients import Client, connected
from tests.processes import Stack
from tests.waiting import DEADLINE


@pytest.fixture(scope="module")
def other(document_stack: Stack) -> str:
    """The address of one more push server: with an impatient clock, other origins, a proxy."""
    server = document_stack.push_server(
        QUEUE_RUN_AUTHENTICATE_TIMEOUT="2",
        QUEUE_RUN_ALLOWED_ORIGINS="https://example.com, http://localhost:3000",
        QUEUE_RUN_TRUSTED_PROXIES="127.0.0.0/8, 10.0.0.0/8",
    )
    server.wait_until_ready()
    return server.url


def ws(address: str) -> str:
    return address.replace("http", "ws", 1)


async def refusal(url: str, **options: Any) -> tuple[int, str]:
    """Status and text with which a connection is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with connected(url, **options):
            pass
    response = refused.value.response
    return response.status_code, (response.body or b"").decode().strip()


async def user_of(client: Client) -> Any:
    return (await client.ask(1))["user"]


async def send_to(stack: Stack, user: str, message: str) -> None:
    async with connected(stack.ws("/")) as sender:
        steps = [{"to": [user], "message": message}]
        assert await sender.ask({"steps": steps, "reply": "sent"}) == "sent"


# A token in the first message


async def test_a_good_token_in_the_first_message_makes_the_user(document_stack: Stack) -> None:
    async with connected(document_stack.ws("/facts?way=first-message")) as client:
        await client.send({"token": "good-first"})
        # The first answer is that to the first message after the token.
        facts = await client.ask("hello")
        assert facts["user"] == {"id": "first"}
        assert facts["data"] == "hello"
        assert facts["request_id"] == f"{facts['connection']}-1"
        await send_to(document_stack, "first", "for first")
        assert await client.receive() == "for first"


async def test_what_follows_the_token_at_once_is_answered_in_order(document_stack: Stack) -> None:
    async with connected(document_stack.ws("/facts?way=first-message")) as client:
        await client.send({"token": "good-eager"})
        for n in range(10):
            await client.send(n)
        answers = [await client.receive() for _ in range(10)]
        assert [answer["data"] for answer in answers] == list(range(10))
        assert {answer["user"]["id"] for answer in answers} == {"eager"}


async def test_nothing_is_delivered_before_the_token(document_stack: Stack) -> None:
    async with connected(document_stack.ws("/?way=first-message")) as client:
        # Sent to the user whom it will turn out to be, while it has not said so.
        await send_to(document_stack, "later", "too early")
        await client.send({"token": "good-later"})
        assert await client.ask({"reply": "open"}) == "open"
        await send_to(document_stack, "later", "in time")
        assert await client.receive() == "in time"


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ({"token": "bad"}, "wrong token"),
        ({"token": "broken-1"}, "internal error"),
        ({"token": ""}, "no token"),
        ({"token": 7}, "no token"),
        ({"steps": [{"send": "let me in"}]}, "no token"),
        ("good-text", "no token"),
        (b"good-bytes", "no token"),
    ],
)
async def test_a_wrong_token_closes_with_4401(
    document_stack: Stack, record: Record, first: Any, reason: str
) -> None:
    mark = f"refused {first}"
    async with connected(document_stack.ws("/?way=first-message")) as client:
        await client.send(first)
        # Too late: who was refused is not asked again, and no handler runs.
        await client.send({"token": "good-second"})
        await client.send({"mark": mark, "reply": "let in"})
        assert await client.until_closed() == []
        assert (client.connection.close_code, client.connection.close_reason) == (4401, reason)
    # What another client sends now comes to the worker later.
    async with connected(document_stack.ws("/")) as client:
        await client.ask({"mark": f"{mark}, end", "reply": "x"})
    await record.call(f"{mark}, end", "on_message_received")
    assert record.all(mark) == []


async def test_no_token_in_time_closes_with_4401(other: str) -> None:
    url = ws(other) + "/?way=first-message"
    async with asyncio.timeout(DEADLINE):
        # On a machine that stalls, the worker's answer may take longer than this server waits.
        while (closed := await close_without_token(url)) is None:
            pass
    assert closed == (4401, "no token came in time")


async def close_without_token(url: str) -> tuple[int, str] | None:
    """How a client that says nothing is closed; None when it was not let in."""
    started = time.monotonic()
    with contextlib.suppress(InvalidStatus):
        async with connected(url) as client:
            closed = await client.closed()
            assert time.monotonic() - started > 1.9
            return closed
    return None


async def test_a_client_that_leaves_while_its_token_is_looked_at_leaves_nothing_behind(
    document_stack: Stack,
) -> None:
    grace = 50
    server = document_stack.push_server(QUEUE_RUN_SHUTDOWN_GRACE=str(grace))
    server.wait_until_ready()
    url = document_stack.ws("/?way=first-message", server=len(document_stack.push_servers) - 1)
    async with connected(url) as stays:
        for _ in range(5):
            async with connected(url) as client:
                await client.send({"token": "good-slow"})
                client.connection.transport.abort()
        # Asked after them, so answered after them.
        await stays.send({"token": "good-slow"})
        assert await stays.ask({"reply": "fine"}) == "fine"
    started = time.monotonic()
    server.send(signal.SIGTERM)
    assert await asyncio.to_thread(server.wait) == 0
    # A server waits so long for connections that do not go away.
    assert time.monotonic() - started < grace - 1
    assert "Traceback" not in server.output


async def test_no_handler_sees_the_token(document_stack: Stack, record: Record) -> None:
    async with connected(document_stack.ws("/?way=first-message")) as client:
        await client.send({"token": "good-seen", "mark": "token-seen"})
        await client.ask({"mark": "token-seen", "n": 1, "reply": {"mark": "token-seen"}})
    await record.calls("token-seen", "on_message_sent")
    received = await record.calls("token-seen", "on_message_received")
    assert [call["data"].get("n") for call in received] == [1]


# A token in the handshake


async def test_a_token_as_a_subprotocol_is_taken_and_not_sent_back(document_stack: Stack) -> None:
    offered = [Subprotocol("bearer.good-sub"), Subprotocol("queue-run"), Subprotocol("other")]
    async with connected(document_stack.ws("/facts"), subprotocols=offered) as client:
        assert client.connection.subprotocol == "queue-run"
        assert await user_of(client) == {"id": "sub"}


async def test_a_token_as_the_only_subprotocol_selects_none(document_stack: Stack) -> None:
    offered = [Subprotocol("bearer.good-only")]
    async with connected(document_stack.ws("/facts"), subprotocols=offered) as client:
        assert client.connection.subprotocol is None
        assert await user_of(client) == {"id": "only"}


async def test_a_wrong_token_as_a_subprotocol_is_refused(document_stack: Stack) -> None:
    offered = [Subprotocol("queue-run"), Subprotocol("bearer.bad")]
    refused = await refusal(document_stack.ws("/facts"), subprotocols=offered)
    assert refused == (401, "wrong token")


async def test_a_token_in_the_authorization_header_is_taken(document_stack: Stack) -> None:
    header = {"Authorization": "Bearer good-header"}
    async with connected(document_stack.ws("/facts"), additional_headers=header) as client:
        assert await user_of(client) == {"id": "header"}


# What on_authenticate returns


async def test_an_int_is_an_id_and_becomes_text(document_stack: Stack) -> None:
    async with connected(document_stack.ws("/facts?way=int")) as client:
        assert await user_of(client) == {"id": "7"}
        code = "from queue_run import socket; socket.to(7).send('by number')"
        script = document_stack.script(code)
        assert await asyncio.to_thread(script.wait) == 0, script.output
        assert await client.receive() == "by number"


async def test_none_is_an_anonymous_user(document_stack: Stack) -> None:
    async with connected(document_stack.ws("/facts")) as client:
        assert await user_of(client) is None


@pytest.mark.parametrize("way", ["raises", "returns"])
@pytest.mark.parametrize("status", [400, 403, 429, 503, 599])
async def test_a_refusal_raised_or_returned_is_its_http_status(
    document_stack: Stack, way: str, status: int
) -> None:
    url = document_stack.ws(f"/?way={way}&status={status}")
    expected = "raised" if way == "raises" else "returned"
    assert await refusal(url) == (status, expected)


async def test_any_other_exception_is_a_500_without_its_text_and_told_to_on_error(
    document_stack: Stack, record: Record
) -> None:
    url = document_stack.ws("/?way=fails&mark=auth-fails")
    assert await refusal(url) == (500, "internal error")
    call = await record.call("auth-fails", "on_error")
    assert (call["error"], call["asker"]) == ("a secret of the application", "ConnectionRequest")


async def test_a_user_without_an_id_is_refused_and_told_to_on_error(
    document_stack: Stack, record: Record
) -> None:
    url = document_stack.ws("/?way=without-id&mark=auth-no-id")
    assert await refusal(url) == (500, "internal error")
    call = await record.call("auth-no-id", "on_error")
    assert "on_authenticate must return an object with an id" in call["error"]


# Expiry


async def test_a_connection_is_closed_with_4401_when_its_token_expires(
    document_stack: Stack,
) -> None:
    for seconds in (2, 8, 32):
        expires = time.time() + seconds
        url = document_stack.ws(f"/facts?way=expires&at={expires}")
        # On a busy machine its time may be over before it is let in, or answered: then another one
        # has more.
        with contextlib.suppress(InvalidStatus, ConnectionClosed):
            async with connected(url) as client:
                assert await user_of(client) == {"id": "guest"}
                assert await client.closed() == (4401, "the token has expired")
                assert time.time() >= expires - 0.1
                return
    raise AssertionError("nobody was let in")


async def test_a_connection_whose_token_expires_later_stays(document_stack: Stack) -> None:
    for later in (time.time() + 3600, 9_999_999_999):
        async with connected(document_stack.ws(f"/facts?way=expires&at={later}")) as client:
            assert await user_of(client) == {"id": "guest"}


# Origins and proxies


@pytest.mark.parametrize("origin", ["https://example.com", "http://localhost:3000"])
async def test_pages_of_allowed_origins_are_let_in(other: str, origin: str) -> None:
    async with connected(ws(other) + "/facts", origin=origin) as client:
        assert await user_of(client) is None


async def test_the_servers_own_pages_are_let_in_beside_them(other: str) -> None:
    async with connected(ws(other) + "/facts", origin=other) as client:
        assert await user_of(client) is None


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.com",
        "https://example.com:8443",
        "https://example.com.evil.example",
        "https://evil.example",
        "null",
    ],
)
async def test_pages_of_other_origins_are_refused(other: str, origin: str) -> None:
    url = ws(other) + "/facts"
    assert await refusal(url, origin=origin) == (403, "origin not allowed")


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        (None, "127.0.0.1"),
        ("203.0.113.5", "203.0.113.5"),
        ("198.51.100.1, 203.0.113.5", "203.0.113.5"),
        ("198.51.100.1, 203.0.113.5, 10.1.2.3", "203.0.113.5"),
        ("nonsense", "127.0.0.1"),
    ],
)
async def test_a_trusted_proxy_is_believed_about_its_own_peer_alone(
    other: str, forwarded: str | None, address: str
) -> None:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    url = ws(other) + "/facts?way=address"
    async with connected(url, additional_headers=headers) as client:
        assert (await user_of(client))["address"] == address


async def test_without_trusted_proxies_nobody_is_believed(document_stack: Stack) -> None:
    headers = {"X-Forwarded-For": "203.0.113.5", "X-Real-Ip": "203.0.113.5"}
    url = document_stack.ws("/facts?way=address")
    async with connected(url, additional_headers=headers) as client:
        assert (await user_of(client))["address"] == "127.0.0.1"

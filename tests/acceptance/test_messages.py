"""Messages go through Celery to a handler and back, on real processes."""

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.clients import Client, connected
from tests.processes import Stack


async def refusal(url: str, **options: Any) -> tuple[int, str]:
    """Status and text with which a connection is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with connected(url, **options):
            pass
    response = refused.value.response
    return response.status_code, (response.body or b"").decode().strip()


# Replies


async def test_json_text_and_binary_are_answered_in_their_own_form(stack: Stack) -> None:
    async with connected(stack.ws("/")) as client:
        assert await client.ask({"a": [1, None]}) == {"echo": {"a": [1, None]}}
        assert await client.ask("plain text") == {"echo": "plain text"}
        assert await client.ask(b"\x00\xff") == b"\x00\xff"
    async with connected(stack.ws("/text")) as client:
        await client.send("grüße")
        assert await client.receive_raw() == "GRÜSSE"


async def test_a_handler_gets_everything_that_it_asks_for(stack: Stack) -> None:
    async with connected(stack.ws("/rooms/a%20b/everything?user=ann&x=1")) as client:
        got = await client.ask({"n": 1})
    assert got == {
        "connection": got["connection"],
        "data": {"n": 1},
        "request_id": f"{got['connection']}-1",
        "user": {"id": "ann", "tags": ["x"]},
        "path": "/rooms/a%20b/everything",
        "params": {"room": "a b"},
        "signal": False,
        "query": {"user": "ann", "x": "1"},
    }


async def test_a_handler_that_returns_nothing_sends_nothing(stack: Stack) -> None:
    async with connected(stack.ws("/quiet")) as client:
        await client.send("hush")
        assert await client.ask("speak") == "loud"


async def test_a_path_without_a_file_is_answered_by_the_nearest_index(stack: Stack) -> None:
    async with connected(stack.ws("/no/such/file")) as client:
        assert await client.ask("hello") == {"echo": "hello"}


async def test_replies_come_in_the_order_of_the_questions(stack: Stack) -> None:
    """2,000 messages of 50 connections through two worker processes."""

    async def converse(number: int) -> None:
        async with connected(stack.ws("/", server=number % 2)) as client:
            sender = asyncio.create_task(send_all(client, number))
            replies = [await client.receive() for _ in range(40)]
            await sender
            assert replies == [{"echo": {"client": number, "n": n}} for n in range(40)]
            # None twice: the next reply is that to the next question.
            assert await client.ask("end") == {"echo": "end"}

    async def send_all(client: Client, number: int) -> None:
        for n in range(40):
            await client.send({"client": number, "n": n})

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(converse(number))


async def test_an_unordered_route_lets_fast_messages_pass_slow_ones(stack: Stack) -> None:
    async with connected(stack.ws("/unordered")) as client:
        await client.send({"seconds": 3, "name": "slow"})
        await client.send({"seconds": 0, "name": "fast"})
        assert [(await client.receive())["name"] for _ in range(2)] == ["fast", "slow"]


# Errors


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ("raise", "internal error"),
        ("client error", "send a number"),
        ("unencodable", "internal error"),
        ("exit", "internal error"),
        ("cancel", "internal error"),
        ("huge", "internal error"),
        ("sleep", "no answer within 1 seconds"),
        ("block", "no answer within 1 seconds"),
    ],
)
async def test_a_failure_is_told_and_the_next_message_answered(
    stack: Stack, asked: str, error: str
) -> None:
    async with connected(stack.ws("/errors")) as client:
        got = await client.ask(asked)
        assert got["error"].startswith(error)
        assert "secret" not in got["error"]
        assert await client.ask("fine?") == "fine"


async def test_a_plain_handler_past_its_timeout_is_told_by_its_signal(stack: Stack) -> None:
    async with connected(stack.ws("/sleeper")) as client:
        assert await client.ask("sleep") == {"error": "no answer within 0.5 seconds"}
        assert await client.ask("wake") == "awake"


async def test_a_frame_that_does_not_fit_the_route_is_an_error(stack: Stack) -> None:
    async with connected(stack.ws("/text")) as client:
        assert await client.ask(b"\x00") == {"error": "this path takes text, not binary messages"}
        assert await client.ask("fine") == "FINE"


async def test_a_message_beyond_the_limit_closes_with_1009(stack: Stack) -> None:
    async with connected(stack.ws("/")) as client:
        await client.send("x" * (64 * 1024 + 1))
        assert (await client.closed())[0] == 1009


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        (b"\x03\xe8", 1000),
        (b"\x0f\xa0bye", 4000),
        (b"", 1005),
        (b"\x03\xed", 1002),  # 1005 may not be sent
        (b"\x00\x00", 1002),
        (b"\x04\x4c", 1002),  # 1100 is nobody's
        (b"\x03", 1002),
        (b"\x03\xe8\xff", 1007),
    ],
)
async def test_a_close_frame_is_answered_by_the_letter(
    stack: Stack, payload: bytes, answer: int
) -> None:
    """RFC 6455, 7.4; Autobahn's cases 7.3 and 7.9."""
    async with connected(stack.ws("/")) as client:
        transport = client.connection.transport
        # Masked with zeros, that is: as it is.
        transport.write(bytes([0x88, 0x80 | len(payload)]) + bytes(4) + payload)
        assert (await client.closed())[0] == answer


# Authentication


async def test_the_user_comes_from_the_query_or_a_cookie(stack: Stack) -> None:
    path = "/rooms/1/everything"
    async with connected(stack.ws(f"{path}?user=ann")) as client:
        assert (await client.ask(1))["user"]["id"] == "ann"
    cookie = {"Cookie": "other=1; user=bob"}
    async with connected(stack.ws(path), additional_headers=cookie) as client:
        assert (await client.ask(1))["user"]["id"] == "bob"
    async with connected(stack.ws(path)) as client:
        assert (await client.ask(1))["user"] is None


async def test_a_refusal_is_an_http_status(stack: Stack) -> None:
    assert await refusal(stack.ws("/?user=nobody")) == (401, "who are you?")


async def test_a_failing_on_authenticate_refuses_without_its_secrets(stack: Stack) -> None:
    assert await refusal(stack.ws("/?user=broken")) == (500, "internal error")


async def test_a_user_without_an_id_is_refused_and_logged(stack: Stack) -> None:
    assert await refusal(stack.ws("/?user=without-id")) == (500, "internal error")
    assert "on_authenticate must return an object with an id" in stack.logs()


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "http://{host}.evil"],
)
async def test_a_page_of_another_origin_is_refused(stack: Stack, origin: str) -> None:
    origin = origin.format(host=stack.url.removeprefix("http://"))
    assert await refusal(stack.ws("/"), origin=origin) == (403, "origin not allowed")


async def test_a_page_of_the_same_origin_is_let_in(stack: Stack) -> None:
    async with connected(stack.ws("/"), origin=stack.url) as client:
        assert await client.ask("hello") == {"echo": "hello"}


async def test_a_request_that_is_no_websocket_is_told_so(stack: Stack) -> None:
    status, text = await asyncio.to_thread(stack.push_servers[0].get, "/")
    assert status == 426
    assert "WebSocket" in text


# Health


async def test_health_and_readiness(stack: Stack) -> None:
    server = stack.push_servers[0]
    status, body = await asyncio.to_thread(server.get, "/healthz")
    assert (status, json.loads(body)["status"]) == (200, "ok")
    # Samples are taken all the time.
    assert json.loads(body)["loop_lag"]["samples"] > 0
    assert await asyncio.to_thread(server.get, "/readyz") == (
        200,
        '{"status": "ok", "missing": []}',
    )

"""Data at the edges of JSON, through real processes: half characters, NaN, depth."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from websockets.typing import Subprotocol

from queue_run.client import connect
from tests.clients import connected
from tests.conftest import new_namespace, write_files
from tests.processes import RedisServer, Stack
from tests.waiting import DEADLINE

KEY = "a-key-of-a-program"
APP = {
    "sockets/_middleware.py": """
async def on_authenticate(request):
    name = "cut \\ud83d" if "half" in request.query else request.headers.get("x-name")
    return {"id": request.query.get("user", "ann"), "name": name}
""",
    "sockets/index.py": """
import math

from queue_run import queues


async def handler(data, user):
    match data:
        case {"nan": _}:
            return {"items": [1, {"price": math.nan}]}
        case {"push": payload, "to": queue, **group}:
            chosen = queues.get(queue)
            chosen = chosen.group("g") if queue.startswith("ordered") else chosen
            await chosen.push(payload)
            return None
        case "name":
            return user
    return [type(data).__name__, data]
""",
    "queues/tell.py": """
from queue_run import socket


async def handler(job):
    await socket.to("ann").send([type(job).__name__, job])
""",
    "queues/pusher.py": """
from queue_run import socket


async def handler(job, user):
    await socket.to("ann").send(user)
""",
    "queues/ordered_pusher.py": """
from queue_run import Config
from queues.pusher import handler

config = Config(fifo=True)
""",
    "queues/ordered.py": """
from queue_run import Config
from queues.tell import handler

config = Config(fifo=True)
""",
}
#: A browser sends this for an emoji that was cut in two.
HALF = {"text": "\ud83d", "whole": "\U0001f600"}
WIRE = r'{"text":"\ud83d","whole":"\ud83d\ude00"}'


@pytest.fixture(scope="module")
def site(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    app = write_files(tmp_path_factory.mktemp("data") / "app", APP)
    stack = Stack(
        redis_server.url,
        app,
        new_namespace(),
        QUEUE_RUN_API_KEYS=KEY,
        QUEUE_RUN_EXPOSE_ERRORS="true",
    )
    stack.push_server()
    stack.worker("-P", "threads", "-c", "4")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


async def test_half_a_character_is_answered_as_it_came(site: Stack) -> None:
    async with connected(site.ws("/")) as client:
        await client.send(WIRE)
        assert json.loads(await client.receive_raw()) == ["dict", HALF]


async def test_half_a_character_in_a_field_of_a_user_is_replaced(site: Stack) -> None:
    user = {"id": "ann", "name": "cut \ufffd"}
    async with connected(site.ws("/?half=1")) as client:
        assert await client.ask("name") == user
        for queue in ("pusher", "ordered_pusher"):
            await client.send({"push": 1, "to": queue})
            assert await client.receive() == user


async def test_and_so_it_is_in_the_envelope_protocol(site: Stack) -> None:
    protocols = [Subprotocol("queue-run.v1")]
    async with connected(site.ws("/"), subprotocols=protocols) as client:
        await client.receive()
        await client.send(f'{{"id": 1, "data": {WIRE}}}')
        reply = json.loads(await client.receive_raw())
        assert reply == {"type": "reply", "id": 1, "data": ["dict", HALF]}


async def test_and_so_it_is_for_the_python_client(site: Stack) -> None:
    async with connect(site.ws("/"), connect_timeout=DEADLINE) as client, asyncio.timeout(DEADLINE):
        assert await client.request(HALF) == ["dict", HALF]


@pytest.mark.parametrize("queue", ["tell", "ordered"])
async def test_and_so_it_is_for_jobs(site: Stack, queue: str) -> None:
    async with connected(site.ws("/")) as client:
        await client.send(f'{{"push": {WIRE}, "to": "{queue}"}}')
        assert json.loads(await client.receive_raw()) == ["dict", HALF]


@pytest.mark.parametrize("body", [WIRE.encode(), b"\xef\xbb\xbf" + WIRE.encode()])
@pytest.mark.parametrize("path", ["tell", "ordered?group=http"])
async def test_and_so_it_is_for_what_is_pushed_by_http(site: Stack, path: str, body: bytes) -> None:
    async with connected(site.ws("/")) as client:
        assert await client.ask("hi") == ["str", "hi"]
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        dedupe = f"{'&' if '?' in path else '?'}dedupe={len(body)}" if "group" in path else ""
        response = await AsyncHTTPClient().fetch(
            f"{site.url}/_/queues/{path}{dedupe}",
            method="POST",
            headers=headers,
            body=body,
            connect_timeout=DEADLINE,
            request_timeout=DEADLINE,
        )
        assert response.code == 202
        assert json.loads(await client.receive_raw()) == ["dict", HALF]


async def test_what_is_no_number_is_an_error_that_names_the_field(site: Stack) -> None:
    async with connected(site.ws("/")) as client:
        answer = await client.ask({"nan": True})
        assert answer["error"].endswith("nan is no number of JSON - at `$.items[1].price`")


async def test_a_push_that_is_nested_too_deeply_is_an_error_that_says_so(site: Stack) -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    async with connected(site.ws("/")) as client:
        answer = await client.ask({"push": deep, "to": "tell"})
        assert answer["error"].endswith("it is nested more than 100 levels deep")
        await client.send("[" * 20_000 + "]" * 20_000)
        assert "nested too deeply" in (await client.receive())["error"]
        assert await client.ask("still here") == ["str", "still here"]


async def test_header_values_are_utf8(site: Stack) -> None:
    name = "grüße 🎉".encode().decode("latin-1")
    async with connected(site.ws("/"), additional_headers={"X-Name": name}) as client:
        assert (await client.ask("name"))["name"] == "grüße 🎉"

"""Views of other frameworks send to their user's devices and push jobs for them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import flask
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from queue_run import OutsideCall, Settings, configure, queues, socket
from queue_run.asgi import Scope, UserMiddleware
from queue_run.process import runtime
from queue_run.process.acting import as_user
from queue_run.wsgi import UserMiddleware as WsgiUserMiddleware
from tests.clients import Client, connected
from tests.processes import Stack

OUTSIDE = (
    "socket.send(...) works only while a request or a job of a user runs: "
    "here, name the users: socket.to(user_id).send(...)"
)


@pytest.fixture(autouse=True)
def process(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process sends to the stack, as one that serves a web application does."""
    monkeypatch.setattr(runtime, "_current", None)
    here = configure(Settings(redis_url=stack.redis_url, namespace=stack.namespace))
    yield
    here.close()


class Devices:
    """Two tabs of a user, on two push servers, and somebody else."""

    def __init__(self, tabs: list[Client], other: Client) -> None:
        self.tabs = tabs
        self.other = other

    async def hear(self, *expected: Any) -> None:
        """The tabs get these in this order and nothing else; the other user gets nothing."""
        for tab in self.tabs:
            assert [await tab.receive() for _ in expected] == list(expected)
        await self.hear_nothing()

    async def hear_nothing(self) -> None:
        for client in (*self.tabs, self.other):
            assert await client.ask("anything else?") == {"echo": "anything else?"}


@asynccontextmanager
async def devices(stack: Stack, user: str) -> AsyncIterator[Devices]:
    async with AsyncExitStack() as exits:
        tabs = [
            await exits.enter_async_context(connected(stack.ws(f"/?user={user}", server=server)))
            for server in (0, 1)
        ]
        other = await exits.enter_async_context(connected(stack.ws(f"/?user=not-{user}")))
        yield Devices(tabs, other)


# Starlette


async def user_of(scope: Scope) -> str | None:
    return HTTPConnection(scope).headers.get("x-user")


async def sends(request: Request) -> Response:
    try:
        receipt = await socket.send({"from": "async"})
    except OutsideCall as error:
        return PlainTextResponse(str(error), 400)
    return JSONResponse({"written": receipt.offset is not None})


def sends_from_a_thread(request: Request) -> Response:
    try:
        receipt = socket.send({"from": "thread"}).value
    except OutsideCall as error:
        return PlainTextResponse(str(error), 400)
    return JSONResponse({"written": receipt.offset is not None})


async def pushes(request: Request) -> Response:
    return JSONResponse({"job": await queues.get("typed").push("payload")})


def pushes_from_a_thread(request: Request) -> Response:
    return JSONResponse({"job": queues.get("typed").push("payload").value})


async def streams(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            await socket.send({"chunk": number})
            yield b"."

    return StreamingResponse(chunks())


async def streams_from_threads(request: Request) -> Response:
    def chunks() -> Iterator[bytes]:
        for number in range(3):
            socket.send({"chunk": number})
            yield b"."

    return StreamingResponse(chunks())


async def sends_when_done(request: Request) -> Response:
    return PlainTextResponse("...", background=BackgroundTask(socket.send, {"from": "background"}))


async def acts_for_another(request: Request) -> Response:
    with as_user(request.query_params["user"]):
        await socket.send({"from": "a block"})
    return await sends(request)


async def talks(connection: WebSocket) -> None:
    await connection.accept()
    await socket.send({"from": await connection.receive_text()})
    await connection.close()


STARLETTE = Starlette(
    routes=[
        Route("/sends", sends),
        Route("/sends_from_a_thread", sends_from_a_thread),
        Route("/pushes", pushes),
        Route("/pushes_from_a_thread", pushes_from_a_thread),
        Route("/streams", streams),
        Route("/streams_from_threads", streams_from_threads),
        Route("/sends_when_done", sends_when_done),
        Route("/acts_for_another", acts_for_another),
        WebSocketRoute("/talks", talks),
    ],
    middleware=[Middleware(UserMiddleware, user=user_of)],
)


async def get_starlette(path: str, user: str | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(app=STARLETTE)
    headers = {"x-user": user} if user else {}
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.get(path, headers=headers)


@pytest.mark.parametrize(
    ("path", "source"), [("/sends", "async"), ("/sends_from_a_thread", "thread")]
)
async def test_a_starlette_view_sends_to_all_tabs_of_its_user_and_to_nobody_else(
    stack: Stack, path: str, source: str
) -> None:
    async with devices(stack, f"starlette-{source}") as ann:
        response = await get_starlette(path, f"starlette-{source}")
        assert response.json() == {"written": True}
        await ann.hear({"from": source})


@pytest.mark.parametrize("path", ["/sends", "/sends_from_a_thread"])
async def test_an_anonymous_starlette_view_is_told_to_name_its_users(path: str) -> None:
    response = await get_starlette(path)
    assert (response.status_code, response.text) == (400, OUTSIDE)


@pytest.mark.parametrize("path", ["/pushes", "/pushes_from_a_thread"])
async def test_a_job_pushed_by_a_starlette_view_belongs_to_its_user(
    stack: Stack, path: str
) -> None:
    user = f"starlette{path.replace('/', '-')}"
    async with devices(stack, user) as ann:
        response = await get_starlette(path, user)
        assert len(response.json()["job"]) == 36
        await ann.hear({"type": "str", "size": 7})


@pytest.mark.parametrize("path", ["/streams", "/streams_from_threads"])
async def test_a_starlette_stream_acts_for_its_user_to_its_end(stack: Stack, path: str) -> None:
    user = f"starlette{path.replace('/', '-')}"
    async with devices(stack, user) as ann:
        assert (await get_starlette(path, user)).text == "..."
        await ann.hear(*({"chunk": number} for number in range(3)))


async def test_a_background_task_of_starlette_acts_for_the_user(stack: Stack) -> None:
    async with devices(stack, "background-ann") as ann:
        await get_starlette("/sends_when_done", "background-ann")
        await ann.hear({"from": "background"})


async def test_after_a_block_of_another_user_a_view_acts_for_its_own_again(stack: Stack) -> None:
    async with devices(stack, "block-ann") as ann, devices(stack, "block-bob") as bob:
        await get_starlette("/acts_for_another?user=block-bob", "block-ann")
        await ann.hear({"from": "async"})
        await bob.hear({"from": "a block"})


async def test_starlette_views_side_by_side_act_for_their_own_users(stack: Stack) -> None:
    async with devices(stack, "beside-ann") as ann, devices(stack, "beside-bob") as bob:
        await asyncio.gather(
            *(get_starlette("/streams", user) for user in ("beside-ann", "beside-bob"))
        )
        for user in (ann, bob):
            await user.hear(*({"chunk": number} for number in range(3)))


async def test_a_websocket_of_starlette_acts_for_its_user(stack: Stack) -> None:
    inbound = iter(
        [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "a websocket"}]
    )
    outbound: list[str] = []

    async def receive() -> Any:
        return next(inbound)

    async def send(message: Any) -> None:
        outbound.append(message["type"])

    scope = {
        "type": "websocket",
        "path": "/talks",
        "headers": [(b"x-user", b"starlette-ws")],
        "query_string": b"",
        "subprotocols": [],
    }
    async with devices(stack, "starlette-ws") as ann:
        await STARLETTE(scope, receive, send)
        assert outbound == ["websocket.accept", "websocket.close"]
        await ann.hear({"from": "a websocket"})


# Flask


FLASK = flask.Flask(__name__)
FLASK.secret_key = "a secret of the test"


def session_user(environ: dict[str, Any]) -> str | None:
    with FLASK.request_context(environ):
        user = flask.session.get("user")
    return user if isinstance(user, str) else None


FLASK.wsgi_app = WsgiUserMiddleware(FLASK.wsgi_app, user=session_user)  # type: ignore[method-assign]


@FLASK.post("/login")
def login() -> str:
    flask.session["user"] = flask.request.form["user"]
    return "welcome"


@FLASK.get("/sends")
def flask_sends() -> tuple[str, int]:
    try:
        receipt = socket.send({"from": "flask"}).value
    except OutsideCall as error:
        return str(error), 400
    return f"written: {receipt.offset is not None}", 200


@FLASK.get("/pushes")
def flask_pushes() -> str:
    return queues.get("typed").push("payload").value


@FLASK.get("/streams")
def flask_streams() -> flask.Response:
    def chunks() -> Iterator[bytes]:
        for number in range(3):
            socket.send({"chunk": number, "of": flask.request.path})
            yield b"."

    return flask.Response(flask.stream_with_context(chunks()))


async def get_flask(path: str, user: str | None = None) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        client = FLASK.test_client()
        if user is not None:
            assert client.post("/login", data={"user": user}).text == "welcome"
        response = client.get(path)
        return response.status_code, response.text

    return await asyncio.to_thread(get)


async def test_a_flask_view_sends_to_all_tabs_of_its_user_and_to_nobody_else(stack: Stack) -> None:
    async with devices(stack, "flask-ann") as ann:
        assert await get_flask("/sends", "flask-ann") == (200, "written: True")
        await ann.hear({"from": "flask"})


async def test_an_anonymous_flask_view_is_told_to_name_its_users() -> None:
    assert await get_flask("/sends") == (400, OUTSIDE)


async def test_a_job_pushed_by_a_flask_view_belongs_to_its_user(stack: Stack) -> None:
    async with devices(stack, "flask-pusher") as ann:
        status, job_id = await get_flask("/pushes", "flask-pusher")
        assert (status, len(job_id)) == (200, 36)
        await ann.hear({"type": "str", "size": 7})


async def test_a_flask_stream_acts_for_its_user_to_its_end(stack: Stack) -> None:
    async with devices(stack, "flask-streamer") as ann:
        assert await get_flask("/streams", "flask-streamer") == (200, "...")
        await ann.hear(*({"chunk": number, "of": "/streams"} for number in range(3)))

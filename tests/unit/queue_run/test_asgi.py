"""The ASGI middleware, with applications of a few lines."""

import asyncio
from typing import Any

import pytest

from queue_run.asgi import Message, Receive, Scope, Send, UserMiddleware
from queue_run.process import context
from queue_run.process.acting import User


def user_id() -> str | None:
    call = context.current()
    return call.user_id if call is not None else "outside"


async def receive() -> Message:
    raise AssertionError("nothing was to be received")


async def run(user: Any, scope: Scope) -> list[Any]:
    """What the application sends, and as whom."""
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"step": 1, "as": user_id()})
        await asyncio.sleep(0)
        await send({"step": 2, "as": user_id()})

    async def send(message: Message) -> None:
        sent.append((message["as"], user_id()))

    await UserMiddleware(app, user=user)(scope, receive, send)
    assert user_id() == "outside"
    return sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_the_whole_request_acts_for_the_scope_s_user(kind: str) -> None:
    sent = await run(lambda scope: scope["name"], {"type": kind, "name": "ann"})
    assert sent == [("ann", "ann"), ("ann", "ann")]


async def test_the_user_may_be_found_asynchronously() -> None:
    async def find(scope: Scope) -> User:
        await asyncio.sleep(0)
        return {"id": scope["name"]}

    assert await run(find, {"type": "http", "name": "ann"}) == [("ann", "ann")] * 2


async def test_a_request_of_nobody_acts_for_nobody() -> None:
    assert await run(lambda scope: None, {"type": "http"}) == [(None, None)] * 2


async def test_the_life_of_the_server_has_no_user() -> None:
    def find(scope: Scope) -> User:
        raise AssertionError("there is no user to find")

    assert await run(find, {"type": "lifespan"}) == [("outside", "outside")] * 2


async def test_requests_side_by_side_have_users_of_their_own() -> None:
    names = ["ann", "bob", "eve"]
    runs = (run(lambda scope: scope["name"], {"type": "http", "name": name}) for name in names)
    assert await asyncio.gather(*runs) == [[(name, name)] * 2 for name in names]


async def test_a_failure_leaves_no_user_behind() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await UserMiddleware(app, lambda scope: "ann")({"type": "http"}, receive, receive)  # type: ignore[arg-type]
    assert user_id() == "outside"

"""The user of HTTP requests in ASGI applications: Starlette, FastAPI, Quart, Django."""

import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from queue_run.process.acting import User, as_user

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class UserMiddleware:
    """Runs each request of the application for its user, streamed responses included.

    Inside the request `socket.send` reaches the user's connections, and a job that is pushed
    belongs to the user.

    Args:
        app: the application inside.
        user: gives the user of a scope ("http" or "websocket"): an id, a user with an id, or None
            (see `as_user`). The function may be asynchronous. A plain function runs on the event
            loop and must not block.
    """

    def __init__(self, app: App, user: Callable[[Scope], User | Awaitable[User]]) -> None:
        self._app = app
        self._user = user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        user = self._user(scope)
        with as_user(await user if inspect.isawaitable(user) else user):
            await self._app(scope, receive, send)

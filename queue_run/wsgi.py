"""The user of HTTP requests in WSGI applications: Flask, Django, Bottle."""

import contextvars
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from queue_run.process.acting import User, context_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class UserMiddleware:
    """Runs each request of the application for its user, streamed responses included.

    Inside the request `socket.send` reaches the user's connections, and a job that is pushed
    belongs to the user.

    Args:
        app: the application inside.
        user: gives the user of a request's environ: an id, a user with an id, or None (see
            `as_user`).
    """

    def __init__(self, app: "WSGIApplication", user: "Callable[[WSGIEnvironment], User]") -> None:
        self._app = app
        self._user = user

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        context = context_of(self._user(environ))
        body = context.run(self._app, environ, start_response)
        # No code of the application runs while a list or a file is read. The server must see them
        # as they are: it asks a list for its length, and sends a file without Python.
        if isinstance(body, list | tuple) or _is_file(body, environ):
            return body
        return _Streamed(body, context)


class _Streamed:
    """A response whose every step runs in one context, on whichever thread the server takes it."""

    def __init__(self, body: Iterable[bytes], context: contextvars.Context) -> None:
        self._body = body
        self._context = context
        self._chunks: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._chunks is None:
            self._chunks = self._context.run(iter, self._body)
        return self._context.run(next, self._chunks)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            self._context.run(close)


def _is_file(body: Iterable[bytes], environ: "WSGIEnvironment") -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)

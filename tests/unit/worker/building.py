"""Routes and queues around functions of a test, as the loader makes them from files."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from queue_run.contracts.envelopes import Authenticate, Inbound, Turn
from queue_run.contracts.ids import ConnectionId, RequestId, ServerId
from queue_run.contracts.messages import encode_json
from queue_run.middleware import log_error, log_message_received
from tests.waiting import DEADLINE
from worker.application.loader import DEFAULTS, JOB_PARAMETERS, REQUEST_PARAMETERS
from worker.application.middleware import Hook, Hooks
from worker.application.routes import JobHandler, Route

CONNECTION = ConnectionId("s1-1")
REQUEST = RequestId("s1-1-1")


def hook(function: Callable[..., Any], file: str = "sockets/_middleware.py") -> Hook:
    return Hook(
        function=function,
        file=file,
        is_async=inspect.iscoroutinefunction(function),
        inline=function in DEFAULTS,
    )


#: What an application without middleware of its own has.
DEFAULT_HOOKS = Hooks(
    received=hook(log_message_received, "default"), error=hook(log_error, "default")
)


def route(handler: Callable[..., Any], pattern: str = "/", **options: Any) -> Route:
    names = tuple(inspect.signature(handler).parameters)
    takes_request = len(names) == 1 and names[0] not in REQUEST_PARAMETERS
    options.setdefault("hooks", DEFAULT_HOOKS)
    return Route(
        file=f"sockets{pattern}.py",
        pattern=pattern,
        fallback=False,
        handler=handler,
        parameters=() if takes_request else names,
        takes_request=takes_request,
        is_async=inspect.iscoroutinefunction(handler),
        **options,
    )


def queue(handler: Callable[..., Any], name: str = "mail", **options: Any) -> JobHandler:
    names = tuple(inspect.signature(handler).parameters)[1:]
    assert set(names) <= set(JOB_PARAMETERS)
    return JobHandler(
        file=f"queues/{name}.py",
        name=name,
        handler=handler,
        parameters=names,
        is_async=inspect.iscoroutinefunction(handler),
        **options,
    )


def inbound(data: str | bytes = "x", request: RequestId = REQUEST) -> Inbound:
    if isinstance(data, bytes):
        return Inbound(id=request, binary=data)
    return Inbound(id=request, text=data)


def turn(
    *requests: Inbound,
    path: str = "/",
    query: str = "",
    user: object = None,
    connection: ConnectionId = CONNECTION,
    expires_in: float = 600,
) -> Turn:
    return Turn(
        connection=connection,
        path=path,
        query=query,
        user=msgspec.Raw(encode_json(user)),
        requests=list(requests or [inbound()]),
        expires=time.time() + expires_in,
    )


def handshake(
    *headers: tuple[str, str],
    path: str = "/",
    query: str = "",
    message: Inbound | None = None,
    expires_in: float = 600,
) -> Authenticate:
    return Authenticate(
        id=RequestId("s1-1-0"),
        server=ServerId("s1"),
        path=path,
        query=query,
        headers=list(headers),
        remote_ip="192.0.2.1",
        message=message,
        expires=time.time() + expires_in,
    )


class Gate:
    """Holds those that pass through it until it is opened; knows how many are inside."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.inside = 0
        self.most = 0

    def pass_through(self) -> str:
        """The name of the thread that has passed."""
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self._open.wait(DEADLINE)
        with self._lock:
            self.inside -= 1
        return threading.current_thread().name

    async def handler(self) -> str:
        return await asyncio.to_thread(self.pass_through)

    def open(self) -> None:
        self._open.set()

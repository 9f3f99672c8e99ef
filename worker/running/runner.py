"""Running one request or one handshake. Knows no Celery and no Redis.

A request ends in an `Outcome`, whatever its handler does. Asynchronous handlers run on the event
loop that calls these functions, plain ones in a thread.
"""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import msgspec

from queue_run.application.config import DataType
from queue_run.application.requests import (
    ConnectionRequest,
    Request,
    SentMessage,
    Signal,
    parse_query,
)
from queue_run.channel.receipts import Receipt, Sending
from queue_run.contracts.addresses import counted_as
from queue_run.contracts.envelopes import (
    Admitted,
    Authenticate,
    Authenticated,
    Inbound,
    Outcome,
    Refusal,
    TokenWanted,
    Turn,
)
from queue_run.contracts.ids import id_of_user
from queue_run.contracts.messages import (
    TOO_DEEP,
    Message,
    decode_json,
    encode_json,
    unicode_text,
    user_facts,
)
from queue_run.contracts.messages import encode as encode_message
from queue_run.errors import AskToken, ClientError, HandlerTimeout, InvalidName, Refuse
from queue_run.logs import excerpt
from queue_run.logs.complaints import Complaints
from queue_run.process import context
from queue_run.process.context import Call
from queue_run.storage.clock import Clock
from worker.application.middleware import Middleware, ends_the_process
from worker.application.routes import Route, Routes

log = logging.getLogger(__name__)

INTERNAL_ERROR = "internal error"
#: Characters of an error's text that a client gets: it may quote what the client has sent.
MAX_ERROR = 4_000
#: The same of a refusal in the log: it may quote what the client has sent.
MAX_REASON = 500


class Runner:
    """Runs an application's handlers."""

    def __init__(
        self,
        routes: Routes,
        *,
        threads: Executor,
        middleware: Middleware,
        max_message_bytes: int,
        expose_errors: bool,
        clock: Clock,
    ) -> None:
        self._router = routes.router()
        self._complaints = Complaints(log, first=20)
        self._authenticate = routes.authenticate
        self._hooks = routes.hooks
        self._threads = threads
        self._middleware = middleware
        self._max_message_bytes = max_message_bytes
        self._expose_errors = expose_errors
        self._clock = clock
        self._running: set[Signal] = set()

    def signal_all(self) -> None:
        """Tell everything that runs that it should come to an end."""
        for signal in list(self._running):
            signal.set()

    def sent(self, message: SentMessage) -> None:
        """Tell the middleware of a message that no handler has sent; from any thread."""
        self._middleware.sent(self._hooks, message, None)

    async def run_request(self, turn: Turn, inbound: Inbound) -> Outcome:
        """Run the handler for one request. Never raises for what the handler does."""
        found = self._router.match(turn.path)
        if found is None:
            return Outcome(connection=turn.connection, request=inbound.id, error="not available")
        route, params = found
        user = msgspec.json.decode(turn.user)
        data, misfit = _fitting(inbound, route.type)
        request = Request(
            connection=turn.connection,
            data=data,
            request_id=inbound.id,
            user=user,
            path=turn.path,
            params=params,
            query=parse_query(turn.query),
            signal=Signal(),
            file=route.file,
        )
        call = Call(
            user=user,
            user_id=id_of_user(user),
            connection=turn.connection,
            session=turn.session,
            on_sent=lambda message: self._middleware.sent(route.hooks, message, request),
        )
        reply, error = None, None
        try:
            reply = await self._reply(route, request, call, misfit)
        except BaseException as failure:
            if ends_the_process(failure):
                raise
            error = self._error_text(failure, inbound.id)
            with context.running(call):
                await self._middleware.failed(route.hooks, failure, request)
        return Outcome(
            connection=turn.connection,
            request=inbound.id,
            reply=reply,
            error=error,
            after=await call.last_offset(),
        )

    async def _reply(
        self, route: Route, request: Request, call: Call, misfit: ClientError | None
    ) -> Message | None:
        value = await self.limited(
            lambda: self._answer(route, request, call, misfit), route.timeout, request.signal
        )
        # A handler may end with `return socket.send(...)`: it has said what it had to say.
        if value is None or isinstance(value, Sending | Receipt):
            return None
        reply = encode_message(value, limit=self._max_message_bytes)
        if route.hooks.sent is not None:
            sent = SentMessage(data=value, connection=request.connection)
            self._middleware.sent(route.hooks, sent, request)
        return reply

    async def _answer(
        self, route: Route, request: Request, call: Call, misfit: ClientError | None
    ) -> Any:
        """`on_message_received`, then the handler, unless the frame does not fit the route."""
        with context.running(call):
            if route.hooks.received is not None:
                await self._middleware.call(route.hooks.received, request)
            if misfit is not None:
                raise misfit
            if route.validate is not None:
                request = replace(request, data=route.validate(request.data))
            return await self._call_route(route, request)

    async def authenticate(self, asked: Authenticate) -> Authenticated:
        """Run `on_authenticate`. Never raises for what it does."""
        request = _connection_request(asked)
        try:
            with context.collecting_expiry() as expiry:
                # After its time nobody waits for the answer.
                user = await self.limited(
                    lambda: self._run_authenticate(request),
                    max(0.0, asked.expires - self._clock.now()),
                    Signal(),
                )
            if isinstance(user, Refuse | AskToken):
                raise user
            encoded = None if user is None else _encode_user(user)
        except AskToken:
            return self._token_asked(asked)
        except Refuse as refusal:
            # Applications give what they have caught, too: an exception, None.
            reason = unicode_text(refusal.reason or "")
            self._complaints.tell(
                f"refusals of {counted_as(asked.remote_ip)}",
                "%s: refused with %d %s",
                *(excerpt(asked.path), refusal.status, excerpt(reason, MAX_REASON)),
            )
            return Authenticated.of(asked.id, Refusal(refusal.status, reason))
        except BaseException as failure:
            if ends_the_process(failure):
                raise
            await self._middleware.failed(self._hooks, failure, request)
            return Authenticated.of(asked.id, Refusal(500, INTERNAL_ERROR))
        # A token's time is told by the clock by which it was checked, which is this machine's.
        expires = None if expiry.at is None else self._clock.from_system(expiry.at)
        return Authenticated.of(asked.id, Admitted(encoded, expires))

    def _token_asked(self, asked: Authenticate) -> Authenticated:
        if asked.message is not None:
            return Authenticated.of(asked.id, Refusal(401, "no token"))
        return Authenticated.of(asked.id, TokenWanted())

    async def _run_authenticate(self, request: ConnectionRequest) -> Any:
        if self._authenticate is None:
            return None
        return await self._middleware.call(self._authenticate, request)

    async def _call_route(self, route: Route, request: Request) -> Any:
        named: dict[str, Any] = {
            name: request if name == "request" else getattr(request, name)
            for name in route.parameters
        }
        positional = (request,) if route.takes_request else ()
        if route.is_async:
            return await route.handler(*positional, **named)
        # The thread sees the current call; a thread that outlives its time limit keeps running.
        run = contextvars.copy_context().run
        loop = asyncio.get_running_loop()
        value = await loop.run_in_executor(
            self._threads, lambda: run(route.handler, *positional, **named)
        )
        return await value if inspect.isawaitable(value) else value

    async def limited(
        self, run: Callable[[], Awaitable[Any]], seconds: float, signal: Signal
    ) -> Any:
        """Run with a time limit; at its end the signal is set and asynchronous code cancelled.

        Raises:
            HandlerTimeout: when it took longer.
        """
        self._running.add(signal)
        try:
            async with asyncio.timeout(seconds) as limit:
                return await run()
        except TimeoutError:
            if not limit.expired():
                raise
            # A plain handler cannot be stopped: its thread is told.
            signal.set()
            raise HandlerTimeout(seconds) from None
        finally:
            self._running.discard(signal)

    def _error_text(self, failure: BaseException, request: str) -> str:
        if isinstance(failure, ClientError | HandlerTimeout) or self._expose_errors:
            return excerpt(unicode_text(failure), MAX_ERROR) or type(failure).__name__
        return f"{INTERNAL_ERROR} ({request})"


def _connection_request(asked: Authenticate) -> ConnectionRequest:
    message = None if asked.message is None else decode_data(asked.message, "auto")
    return ConnectionRequest(
        path=asked.path,
        query=parse_query(asked.query),
        headers=_joined(asked.headers),
        remote_ip=asked.remote_ip,
        message=message,
    )


def _fitting(inbound: Inbound, wanted: DataType) -> tuple[Any, ClientError | None]:
    """Decode a frame for the handler; one that does not fit stays as it came, with the error."""
    try:
        return decode_data(inbound, wanted), None
    except ClientError as misfit:
        return inbound.data, misfit


def decode_data(inbound: Inbound, wanted: DataType) -> Any:
    """Decode a frame into what the handler gets.

    Raises:
        ClientError: when the frame does not fit the type that the route wants.
    """
    data = inbound.data
    if isinstance(data, bytes):
        if wanted in ("json", "text"):
            raise ClientError(f"this path takes {wanted}, not binary messages")
        return data
    if wanted == "binary":
        raise ClientError("this path takes binary messages, not text")
    if wanted == "text" and not inbound.json:
        return data
    try:
        decoded = decode_json(data)
    except ValueError as error:
        # What is only nested too deeply is JSON, and no text.
        deep = str(error) == TOO_DEEP and data.rstrip().endswith(("]", "}"))
        if wanted == "json" or inbound.json or deep:
            raise ClientError(f"this path takes JSON: {error}") from None
        return data
    if wanted == "text" and not isinstance(decoded, str):
        raise ClientError("this path takes text, not other JSON")
    return decoded


def _encode_user(user: Any) -> bytes:
    """The user as JSON, with its id as text.

    Raises:
        Refuse: for an id that is text and cannot be used: it is a client's, or its token's.
        TypeError: for a user without an id.
        NotEncodable: for one that has no JSON form.
    """
    decoded = user_facts(user)
    try:
        decoded = {**decoded, "id": id_of_user(decoded)}
    except TypeError as error:
        if isinstance(error, InvalidName) and isinstance(decoded["id"], str):
            raise Refuse(401, str(error)) from None
        raise TypeError(f"on_authenticate must return an object with an id: {error}") from None
    return encode_json(decoded)


def _joined(headers: list[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        separator = "; " if key == "cookie" else ", "
        joined[key] = f"{joined[key]}{separator}{value}" if key in joined else value
    return joined

"""The HTTP side: handshakes, WebSockets, health, and the static files of development."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from http import HTTPStatus
from http.client import responses
from typing import Any, cast

import msgspec
from tornado import web
from tornado.iostream import IOStream, StreamBufferFullError, StreamClosedError
from tornado.websocket import (
    WebSocketClosedError,
    WebSocketHandler,
    WebSocketProtocol,
    WebSocketProtocol13,
)

from push_server.close_frames import StrictProtocol
from push_server.connections import Connection
from push_server.lag import LagMonitor
from push_server.lanes import Lane
from push_server.outbox import Outbox
from push_server.pace import Pace
from push_server.protocols.envelope import (
    PONG_FRAME,
    Asked,
    Envelope,
    Misunderstood,
    Pinged,
    Ponged,
    Resume,
    misunderstood_frame,
)
from push_server.services import SHUTTING_DOWN, Refused, Services
from push_server.sessions import new_session
from queue_run import frames
from queue_run.envelopes import Authenticated
from queue_run.ids import RequestId, id_of_user

log = logging.getLogger(__name__)


#: Close code for a client that is not, or no longer, authorized.
UNAUTHORIZED = 4401


class SocketHandler(WebSocketHandler):
    """One WebSocket, from its handshake to its end."""

    def initialize(self, services: Services) -> None:
        self._services = services
        #: None until the client is authenticated.
        self._connection: Connection | None = None
        self._id = services.connections.new_id()
        self._answer = Authenticated(request=RequestId(f"{self._id}-0"), status=HTTPStatus.OK)
        self._pace = Pace(services.settings.max_message_rate, time.monotonic())
        self._time_limit: asyncio.TimerHandle | None = None
        self._transport: SocketTransport | None = None
        #: Refused after it was accepted: what it still sends makes no connection of it.
        self._refused = False

    # The handshake.

    async def prepare(self) -> None:
        """Authenticate before the connection is accepted."""
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise Refused(426, "this address speaks WebSocket")
        self._services.check_origin(self.request)
        if self._services.closing:
            raise Refused(503, SHUTTING_DOWN)
        application = self._services.application
        if not application.known:
            # Nobody has said yet whether connections need authentication.
            raise Refused(503, "no worker is there yet")
        if application.authenticates:
            if not application.available:
                raise Refused(503, "no worker is there")
            self._answer = await self._services.authenticate(self.request, self._id)
            if self._answer.status not in (HTTPStatus.OK, HTTPStatus.CONTINUE):
                raise Refused(self._answer.status, self._answer.reason or "not authorized")

    def check_origin(self, origin: str) -> bool:
        return self._services.origins.admits(origin, self.request.host)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """The envelope protocol where it is offered; else the first name that is no token:
        browsers insist on an answer."""
        if frames.SUBPROTOCOL in subprotocols:
            return frames.SUBPROTOCOL
        names = [name for name in subprotocols if name and not name.startswith("bearer.")]
        return names[0] if names else None

    async def _take_token(self, message: str | bytes) -> None:
        """The first message of a client that was asked for its token."""
        # It came in time; how long the answer may take is a limit of its own.
        self._close_in(None, "")
        try:
            answer = await self._services.authenticate(self.request, self._id, message)
        except Refused as refusal:
            self._refuse(1013, refusal.text)
            return
        self._answer = answer
        if answer.status == HTTPStatus.OK:
            self._enter()
        else:
            reason = answer.reason or "not authorized"
            log.info("%s from %s: %s", self.request.path, self.request.remote_ip, reason)
            self._refuse(UNAUTHORIZED, reason)

    # The connection.

    def open(self, *args: str, **kwargs: str) -> None:
        settings = self._services.settings
        self._transport = SocketTransport(self, settings.max_outbox_bytes, self._id)
        if self._answer.status == HTTPStatus.OK:
            self._enter()
        else:
            self._close_in(settings.authenticate_timeout, "no token came in time")

    def _enter(self) -> None:
        """Make it a connection: from now on messages reach it, and its own are answered."""
        services = self._services
        answer = self._answer
        assert self._transport is not None
        user_id = id_of_user(msgspec.json.decode(answer.user or b"null"))
        envelope = None
        if self.selected_subprotocol == frames.SUBPROTOCOL:
            envelope = Envelope(new_session(user_id), services.position.offset)
        self._connection = connection = Connection(
            self._id,
            self._transport,
            Lane(
                max_requests=services.settings.max_lane_requests,
                max_bytes=services.settings.max_lane_bytes,
            ),
            path=self.request.path,
            query=self.request.query,
            user=msgspec.Raw(answer.user or b"null"),
            user_id=user_id,
            envelope=envelope,
        )
        self._transport.name = str(connection)
        services.connections.add(connection)
        services.liveness.add(connection)
        if envelope is not None:
            self._welcome(connection, envelope)
        log.debug("%s: open at %s", connection, connection.path)
        self._close_in(
            None if answer.expires is None else answer.expires - time.time(),
            "the token has expired",
        )
        if services.closing:
            connection.close(1001, SHUTTING_DOWN)

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        if self._connection is None:
            return None if self._refused else self._take_token(message)
        connection = self._connection
        connection.heard = True
        if connection.closing:
            log.debug("%s: a message after the close is not read", connection)
            return None
        if connection.envelope is None:
            waiting = self._services.forwarder.receive(connection, message)
        else:
            waiting = self._take_frame(connection, connection.envelope, message)
        pause = self._pace.take(time.monotonic())
        return _after(pause, waiting) if pause else waiting

    # The envelope protocol.

    def _welcome(self, connection: Connection, envelope: Envelope) -> None:
        services = self._services
        connection.write(
            envelope.welcome(
                connection=connection.id,
                user=connection.user_id,
                epoch=services.position.epoch,
                heartbeat=services.settings.ping_interval,
                resume=services.settings.session_time,
            )
        )
        services.resumption.hold(connection)

    def _take_frame(
        self, connection: Connection, envelope: Envelope, message: str | bytes
    ) -> Awaitable[None] | None:
        event = envelope.received(message)
        match event:
            case Ponged():
                return None
            case Pinged():
                connection.write(PONG_FRAME)
                return None
            case Resume():
                self._services.resumption.resume(connection, event)
                return None
        self._services.resumption.start(connection)
        if isinstance(event, Asked):
            return self._services.forwarder.ask(connection, event)
        if isinstance(event, Misunderstood):
            log.info("%s: a frame that means nothing: %s", connection, event.error)
            connection.answer(misunderstood_frame(event))
        return None

    def on_pong(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.heard = True

    def on_close(self) -> None:
        self._close_in(None, "")
        if self._transport is not None:
            self._transport.discard()
        connection = self._connection
        if connection is not None:
            connection.closing = True
            self._services.connections.remove(connection)
            self._services.liveness.remove(connection)
            self._services.resumption.forget(connection)
            self._services.forwarder.forget(connection)
            log.debug("%s: closed (%s)", connection, self.close_code or "no close frame")

    def _close_in(self, seconds: float | None, reason: str) -> None:
        """End a client that is not authorized any more, after so many seconds; None: never."""
        if self._time_limit is not None:
            self._time_limit.cancel()
            self._time_limit = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._time_limit = loop.call_later(max(0, seconds), self._end, reason)

    def _end(self, reason: str) -> None:
        if self._connection is not None:
            self._connection.close(UNAUTHORIZED, reason)
        else:
            self._refuse(UNAUTHORIZED, reason)

    def _refuse(self, code: int, reason: str) -> None:
        self._refused = True
        if self._transport is not None:
            self._transport.close(code, reason)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A refusal as a line of plain text."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        text = error.text if isinstance(error, Refused) else responses.get(status_code, "refused")
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{text}\n")

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        # Tornado's own form shows the query, and with it the tokens that some clients put there.
        if isinstance(value, Refused):
            log.info("%s from %s: %s", self.request.path, self.request.remote_ip, value)
        else:
            log.error("%s: failed", self._id, exc_info=(typ, value, tb) if value else None)

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        protocol = super().get_websocket_protocol()
        if isinstance(protocol, WebSocketProtocol13):
            return StrictProtocol(self, False, protocol.params)
        return protocol

    def get_compression_options(self) -> dict[str, Any] | None:
        return None


async def _after(seconds: float, waiting: Awaitable[None] | None) -> None:
    """What a client that sends too fast waits for."""
    await asyncio.sleep(seconds)
    if waiting is not None:
        await waiting


class SocketTransport:
    """The socket that a connection stands for."""

    __slots__ = ("_handler", "_outbox", "drained", "write")

    def __init__(self, handler: WebSocketHandler, max_bytes: int, name: str) -> None:
        self._handler = handler
        protocol = handler.ws_connection
        assert protocol is not None
        self._outbox = Outbox(cast("IOStream", protocol.stream), name, max_bytes=max_bytes)
        self.write = self._outbox.write
        self.drained = self._outbox.drained

    @property
    def name(self) -> str:
        """What the log calls it."""
        return self._outbox.name

    @name.setter
    def name(self, name: str) -> None:
        self._outbox.name = name

    @property
    def jammed(self) -> bool:
        return self._outbox.jammed

    def ping(self) -> None:
        try:
            self._handler.ping(b"")
        except (WebSocketClosedError, StreamClosedError):
            log.debug("a ping came after the end")
        except StreamBufferFullError:
            self.abort("slow consumer: not even a ping fits")

    def close(self, code: int, reason: str) -> None:
        # A control frame has room for 125 bytes (RFC 6455, 5.5), two of them the code.
        text = reason.encode()[:123].decode(errors="ignore")
        self._outbox.flush()
        try:
            self._handler.close(code, text)
        except StreamBufferFullError:
            self.abort("slow consumer: not even a close frame fits")

    def abort(self, why: str) -> None:
        self._outbox.abort(why)

    def discard(self) -> None:
        self._outbox.discard()


class HealthHandler(web.RequestHandler):
    """`/healthz`: the process answers, and how late its event loop is, in milliseconds."""

    def initialize(self, lag: LagMonitor) -> None:
        self._lag = lag

    def get(self) -> None:
        self.write({"status": "ok", "loop_lag": msgspec.structs.asdict(self._lag.lag())})


class ReadyHandler(web.RequestHandler):
    """`/readyz`: 200 when messages can be answered, else 503 with what is missing."""

    def initialize(self, services: Services) -> None:
        self._services = services

    def get(self) -> None:
        missing = self._services.missing()
        if missing:
            self.set_status(503)
        self.write({"status": "not ready" if missing else "ok", "missing": missing})


class PublicFileHandler(web.StaticFileHandler):
    """Static files, for development: a browser always asks whether they have changed."""

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")

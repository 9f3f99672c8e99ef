"""The HTTP side: handshakes, WebSockets, health, and the static files of development."""

import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from http.client import responses
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from tornado import web
from tornado.iostream import IOStream, StreamBufferFullError, StreamClosedError
from tornado.websocket import (
    WebSocketClosedError,
    WebSocketHandler,
    WebSocketProtocol,
    WebSocketProtocol13,
)

from push_server.application import Application
from push_server.close_frames import StrictProtocol
from push_server.connections import Connection, Connections
from push_server.forwarder import Forwarder
from push_server.lanes import Lane
from push_server.outbox import Outbox
from queue_run.envelopes import Authenticate, Authenticated
from queue_run.ids import RequestId, ServerId, UserId, id_of_user
from queue_run.settings import Settings

log = logging.getLogger(__name__)


class Services:
    """What handlers use; one for the whole process."""

    def __init__(
        self,
        settings: Settings,
        server: ServerId,
        connections: Connections,
        application: Application,
        forwarder: Forwarder,
    ) -> None:
        self.settings = settings
        self.server = server
        self.connections = connections
        self.application = application
        self.forwarder = forwarder
        #: Set on shutdown: nobody is let in any more.
        self.closing = False
        #: Whether Redis answers.
        self.channel_connected: Callable[[], bool] = lambda: False

    def missing(self) -> list[str]:
        """What stands between a message and its answer."""
        found = []
        if self.closing:
            found.append("shutting down")
        if not self.channel_connected():
            found.append("Redis")
        if not self.application.available:
            found.append("workers")
        return found


class Refused(web.HTTPError):
    """A handshake that is answered with an HTTP status and a line of text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status)
        self.text = text

    def __str__(self) -> str:
        return f"{self.status_code} {self.text}"


class SocketHandler(WebSocketHandler):
    """One WebSocket, from its handshake to its end."""

    def initialize(self, services: Services) -> None:
        self._services = services
        self._connection: Connection | None = None
        self._id = services.connections.new_id()
        self._user = msgspec.Raw(b"null")
        self._user_id: UserId | None = None

    async def prepare(self) -> None:
        """Authenticate before the connection is accepted."""
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise Refused(426, "this address speaks WebSocket")
        origin = self.request.headers.get("Origin")
        if origin is not None and not self.check_origin(origin):
            raise Refused(403, "origin not allowed")
        if self._services.closing:
            raise Refused(503, "the server is shutting down")
        application = self._services.application
        if not application.known:
            # Nobody has said yet whether connections need authentication.
            raise Refused(503, "no worker is there yet")
        if application.authenticates:
            if not application.available:
                raise Refused(503, "no worker is there")
            await self._authenticate()

    async def _authenticate(self) -> None:
        settings = self._services.settings
        handshake = Authenticate(
            id=RequestId(f"{self._id}-0"),
            server=self._services.server,
            path=self.request.path,
            query=self.request.query,
            headers=[(name, value) for name, value in self.request.headers.get_all()],
            remote_ip=self.request.remote_ip or "",
            expires=time.time() + settings.authenticate_timeout,
        )
        try:
            answer = await self._services.forwarder.authenticate(handshake)
        except TimeoutError:
            raise Refused(503, "no worker answered in time") from None
        self._accept_user(answer)

    def _accept_user(self, answer: Authenticated) -> None:
        if answer.status != HTTPStatus.OK:
            raise Refused(answer.status, answer.reason or "not authorized")
        if answer.user is None:
            return
        self._user = msgspec.Raw(answer.user)
        try:
            self._user_id = id_of_user(msgspec.json.decode(answer.user))
        except (msgspec.DecodeError, TypeError) as error:
            log.error("on_authenticate gave no usable user: %s", error)
            raise Refused(500, "internal error") from None

    def open(self, *args: str, **kwargs: str) -> None:
        services = self._services
        max_bytes = services.settings.max_outbox_bytes
        self._transport = SocketTransport(self, max_bytes, self._id)
        connection = Connection(
            self._id,
            self._transport,
            Lane(
                max_requests=services.settings.max_lane_requests,
                max_bytes=services.settings.max_lane_bytes,
            ),
            path=self.request.path,
            query=self.request.query,
            user=self._user,
            user_id=self._user_id,
        )
        self._connection = connection
        services.connections.add(connection)
        log.debug("%s: open at %s", connection, connection.path)
        if services.closing:
            connection.close(1001, "the server is shutting down")

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        assert self._connection is not None
        return self._services.forwarder.receive(self._connection, message)

    def on_pong(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.heard = True

    def on_close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.closing = True
            self._transport.discard()
            self._services.connections.remove(connection)
            self._services.forwarder.forget(connection)
            log.debug("%s: closed (%s)", connection, self.close_code or "no close frame")

    def check_origin(self, origin: str) -> bool:
        """A page may connect to the server that it came from; other origins may not."""
        return urlsplit(origin).netloc.lower() == self.request.host.lower()

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


class SocketTransport:
    """The socket that a connection stands for."""

    __slots__ = ("_handler", "_outbox", "write")

    def __init__(self, handler: WebSocketHandler, max_bytes: int, name: str) -> None:
        self._handler = handler
        protocol = handler.ws_connection
        assert protocol is not None
        self._outbox = Outbox(cast("IOStream", protocol.stream), name, max_bytes=max_bytes)
        self.write = self._outbox.write

    def ping(self) -> None:
        try:
            self._handler.ping(b"")
        except (WebSocketClosedError, StreamClosedError):
            log.debug("a ping came after the end")
        except StreamBufferFullError:
            self.abort("slow consumer: not even a ping fits")

    def close(self, code: int, reason: str) -> None:
        try:
            self._handler.close(code, reason)
        except StreamBufferFullError:
            self.abort("slow consumer: not even a close frame fits")

    def abort(self, why: str) -> None:
        self._outbox.abort(why)

    def discard(self) -> None:
        self._outbox.discard()


class HealthHandler(web.RequestHandler):
    """`/healthz`: the process answers."""

    def get(self) -> None:
        self.write({"status": "ok"})


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

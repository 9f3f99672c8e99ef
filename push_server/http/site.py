"""The HTTP server of a push server: its port, and who answers which path."""

import logging
import os
from typing import Any
from urllib.parse import unquote_to_bytes

from tornado import web
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.routing import Matcher, Rule

from push_server.http.admission import Hosts
from push_server.http.handlers import (
    HealthHandler,
    MisdirectedHandler,
    PublicFileHandler,
    ReadyHandler,
    SocketHandler,
)
from push_server.http.http_server import Server
from push_server.http.push_handler import PushHandler, ReservedHandler
from push_server.http.readiness import Readiness
from push_server.http.reception import Reception
from push_server.http.services import Services
from push_server.rfc6455 import opening
from push_server.transport.event_loop import Entrance
from push_server.transport.lag import LagMonitor
from push_server.upkeep.lifetime import CannotStart
from queue_run.settings import Settings

log = logging.getLogger(__name__)

#: Seconds in which a client must have sent its handshake (Tornado's own default is an hour).
HANDSHAKE_TIMEOUT = 10
#: Seconds in which a client must have sent the body of its request.
BODY_TIMEOUT = 10


class Site:
    """Takes requests on one port, from `serve` on."""

    def __init__(
        self, settings: Settings, services: Services, readiness: Readiness, lag: LagMonitor
    ) -> None:
        self._settings = settings
        self._services = services
        self._readiness = readiness
        self._lag = lag
        self._sockets: list[Entrance] = []
        self._server: Server | None = None
        #: That of the settings; where these leave it open, the one that was found.
        self.port = settings.port

    def bind(self) -> None:
        """Open the port; who connects waits until `serve`.

        Raises:
            CannotStart: when it is taken.
        """
        settings = self._settings
        try:
            sockets = bind_sockets(
                settings.port, settings.host, backlog=1024, reuse_port=settings.reuse_port
            )
        except OSError as error:
            raise CannotStart(
                f"port {settings.port} of {settings.host} cannot be opened ({error.strerror}): "
                "set PORT to another one"
            ) from None
        self.port = sockets[0].getsockname()[1]
        self._sockets = [Entrance(each, self._services.collector.step) for each in sockets]

    def serve(self) -> None:
        """Answer requests."""
        self._lag.start()
        self._server = Server(
            self._application(),
            idle_connection_timeout=HANDSHAKE_TIMEOUT,
            max_header_size=16 * 1024,
            # A handler that takes larger ones says so.
            max_body_size=64 * 1024,
            body_timeout=BODY_TIMEOUT,
        )
        self._server.add_sockets(self._sockets)
        self._services.collector.start()

    def close(self) -> None:
        """Take no connections any more; those that are open stay."""
        if self._server is not None:
            self._server.stop()

    def end(self) -> None:
        """End what went on beside the requests."""
        self._lag.stop()
        self._services.collector.stop()

    def _application(self) -> web.Application:
        services = self._services
        rules: list[Any] = [
            Rule(_OtherHosts(services.hosts), MisdirectedHandler),
            (r"/healthz", HealthHandler, {"lag": self._lag}),
            (r"/readyz", ReadyHandler, {"readiness": self._readiness}),
            (r"/_/queues/([^/]+)", PushHandler, {"services": services}),
            (r"/_/.*", ReservedHandler),
        ]
        if self._settings.public_dir:
            files = {
                "path": os.path.realpath(self._settings.public_dir),
                "default_filename": "index.html",
            }
            rules.append(Rule(_PlainRequests(), PublicFileHandler, files))
        rules.append((r"/.*", SocketHandler, {"reception": Reception(services)}))
        return web.Application(rules, log_function=_log_access, tell_refusal=services.tell_refusal)


class _OtherHosts(Matcher):
    """Requests to a name that is not this server's, whatever their path."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return None if self._hosts.admits(request.host) else {}


class _PlainRequests(Matcher):
    """Requests that are no WebSocket: files and sockets may share a path."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        if opening.asks_for_websocket(request.headers):
            return None
        return {"path_args": [unquote_to_bytes(request.path.lstrip("/"))]}


def _log_access(handler: web.RequestHandler) -> None:
    """Log an answered request without its query, which may hold tokens."""
    log.debug("%d %s", handler.get_status(), handler.request.path)

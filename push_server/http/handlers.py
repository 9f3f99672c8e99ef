"""The HTTP side: handshakes, health, and the static files of development."""

import logging
import os
from http import HTTPStatus
from http.client import responses
from sys import intern
from typing import Any

import msgspec
from tornado import web

from push_server.http.readiness import Readiness
from push_server.http.reception import Guest, Reception
from push_server.http.services import SHUTTING_DOWN, Refused, tell_refusal
from push_server.rfc6455 import opening
from push_server.transport.handover import take_over
from push_server.transport.lag import LagMonitor
from push_server.transport.wire import Wire
from queue_run.contracts import client_frames
from queue_run.contracts.envelopes import Admitted, Refusal, TokenWanted

log = logging.getLogger(__name__)

#: Seconds after which a client that has come too fast, or too often, may try again.
RETRY_AFTER = 5


class SocketHandler(web.RequestHandler):
    """The opening handshake of a WebSocket, and the last that Tornado sees of it."""

    def initialize(self, reception: Reception) -> None:
        self._reception = reception
        self._services = reception.services
        self._services.collector.step()
        self._id = self._services.connections.new_id()
        #: Who it is; None without authentication.
        self._answer: Admitted | TokenWanted | None = None

    async def prepare(self) -> None:
        """Authenticate before the connection is accepted."""
        request = self.request
        fault = opening.fault(request.method or "", request.version, request.headers)
        if fault is not None:
            raise Refused(*fault)
        self._services.check_origin(request)
        if self._services.closing:
            raise Refused(503, SHUTTING_DOWN)
        self._services.check_address(request)
        self._services.check_pace(request)
        application = self._services.application
        if not application.known:
            # Nobody has said yet whether connections need authentication.
            raise await self._services.nobody("no worker is there yet")
        if application.authenticates:
            if not application.available:
                raise await self._services.nobody("no worker is there")
            answer = await self._services.authenticate(request, self._id)
            if isinstance(answer, Refusal):
                raise Refused(answer.status, answer.reason or "not authorized")
            self._answer = answer
            # Others may have come meanwhile.
            self._services.check_address(request)
            if isinstance(answer, Admitted):
                self._services.check_user(answer)

    def get(self) -> None:
        """Open the WebSocket, on a wire of its own: handler, request and stream end here."""
        taken = take_over(self.detach())
        # Else it would know itself, and stay until the garbage collector finds it.
        self.ui.clear()
        if taken is None:
            return
        subprotocol = opening.subprotocol(self.request.headers)
        answer = opening.answer(self.request.headers, subprotocol)
        wire = Wire(
            taken.socket,
            self._reception.limits,
            owner=self._id,
            first=answer,
            address=intern(self._services.address_of(self.request)),
        )
        try:
            self._give(wire, enveloped=subprotocol == client_frames.SUBPROTOCOL)
        except Exception:
            log.exception("%s: failed", self._id)
            wire.abort("it could not be opened")
        else:
            wire.start(taken.early)

    def _give(self, wire: Wire, *, enveloped: bool) -> None:
        """Give the wire to the connection that it becomes, or to a guest."""
        request = self.request
        if isinstance(self._answer, TokenWanted):
            Guest(self._reception, wire, self._id, request, enveloped=enveloped).expect_token()
        else:
            self._reception.enter(
                wire,
                self._id,
                self._answer,
                path=request.path,
                query=request.query,
                enveloped=enveloped,
            )

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A refusal as a line of plain text."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        text = error.text if isinstance(error, Refused) else responses.get(status_code, "refused")
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        if status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self.set_header("Retry-After", str(RETRY_AFTER))
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", "GET")
        if status_code == HTTPStatus.UPGRADE_REQUIRED:
            self.set_header("Upgrade", "websocket")
            self.set_header("Sec-WebSocket-Version", opening.VERSION)
        self.finish(f"{text}\n")

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        # Tornado's own form shows the query, and with it the tokens that some clients put there.
        if isinstance(value, web.HTTPError):
            self._services.tell_refusal(self.request, value)
        else:
            log.error("%s: failed", self._id, exc_info=(typ, value, tb) if value else None)


class _Plainly(web.RequestHandler):
    """Answers GET and HEAD. Refuses with a line of text, and logs it without the query."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        text = error.text if isinstance(error, Refused) else responses.get(status_code, "refused")
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", "GET, HEAD")
        self.finish(f"{text}\n")

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        request = self.request
        if isinstance(value, web.HTTPError):
            tell_refusal(self, value)
        else:
            log.error("%s failed", request.path, exc_info=(typ, value, tb) if value else None)


class HealthHandler(_Plainly):
    """`/healthz`: the process answers, and how late its event loop is, in milliseconds."""

    def initialize(self, lag: LagMonitor) -> None:
        self._lag = lag

    def get(self) -> None:
        """Answer; without the body where it was asked for with HEAD."""
        self.write({"status": "ok", "loop_lag": msgspec.structs.asdict(self._lag.lag())})

    head = get


class ReadyHandler(_Plainly):
    """`/readyz`: 200 when messages can be answered, else 503 with what is missing. Notes tell what
    an operator should know all the same."""

    def initialize(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def get(self) -> None:
        missing = self._readiness.missing()
        if missing:
            self.set_status(503)
        answer = {"status": "not ready" if missing else "ok", "missing": missing}
        notes = self._readiness.notes
        self.write({**answer, "notes": notes} if notes else answer)

    head = get


class MisdirectedHandler(_Plainly):
    """A request to a name that is not this server's."""

    def prepare(self) -> None:
        raise Refused(
            403, "this host is not served: name it in QUEUE_RUN_ALLOWED_HOSTS to allow it"
        )


class PublicFileHandler(_Plainly, web.StaticFileHandler):
    """Static files, for development: a browser always asks whether they have changed.

    Hidden files and folders, and what lies outside the folder, are not there: not by a link, and
    not by another way to write the path.
    """

    @classmethod
    def get_absolute_path(cls, root: str, path: str) -> str:
        parts = path.split("/")
        if "\0" in path or os.path.isabs(path) or any(each.startswith(".") for each in parts):
            raise web.HTTPError(404)
        return super().get_absolute_path(root, path)

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        inside = os.path.join(os.path.realpath(root), "")
        if not os.path.join(os.path.realpath(absolute_path), "").startswith(inside):
            raise web.HTTPError(404)
        return super().validate_absolute_path(root, absolute_path)

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")

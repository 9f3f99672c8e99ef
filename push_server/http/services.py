"""The services that the handlers of HTTP requests and WebSockets share."""

import logging
import time

import msgspec
from tornado import web
from tornado.httputil import HTTPServerRequest

from push_server.clients import plain
from push_server.clients.connections import Connections
from push_server.clients.quotas import Rates, Tally
from push_server.delivery.liveness import Liveness
from push_server.delivery.position import Position
from push_server.delivery.resume import Resumption
from push_server.http.admission import ApiKeys, Hosts, Origins, Proxies
from push_server.http.pushes import Pushes
from push_server.requests.forwarder import Forwarder
from push_server.requests.known_application import KnownApplication
from push_server.transport.garbage import Collector
from queue_run.contracts.addresses import counted_as
from queue_run.contracts.envelopes import Admission, Admitted, Authenticate, Refusal
from queue_run.contracts.ids import ConnectionId, RequestId, ServerId, id_of_user
from queue_run.logs import excerpt
from queue_run.logs.complaints import Complaints
from queue_run.settings import Settings
from queue_run.storage.clock import Clock

log = logging.getLogger(__name__)

SHUTTING_DOWN = "the server is shutting down"
#: Characters of a refusal in the log: it may quote what the client has sent.
MAX_REASON = 500


class Services:
    """The parts and limits that handlers use; one object for the whole process."""

    def __init__(
        self,
        settings: Settings,
        server: ServerId,
        connections: Connections,
        application: KnownApplication,
        forwarder: Forwarder,
        *,
        pushes: Pushes,
        position: Position,
        resumption: Resumption,
        liveness: Liveness,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.server = server
        self.connections = connections
        self.application = application
        self.forwarder = forwarder
        self.pushes = pushes
        self.position = position
        self.resumption = resumption
        self.liveness = liveness
        #: Redis' time: of what travels to workers and back.
        self.clock = clock
        self.origins = Origins(settings.allowed_origins)
        self.hosts = Hosts(settings.allowed_hosts)
        self.proxies = Proxies(settings.trusted_proxies)
        self.api_keys = ApiKeys(settings.api_keys)
        self.addresses = Tally(settings.max_address_connections)
        self.handshakes = Rates(settings.max_address_handshakes)
        #: Pushes of users by HTTP: as many in a second as requests over one connection.
        self.user_pushes = Rates(settings.max_message_rate)
        self.collector = Collector()
        #: Log lines about requests that were refused, by address.
        self.refusals = Complaints(log, first=20)
        #: Set on shutdown: nobody is let in any more.
        self.closing = False

    def address_of(self, request: HTTPServerRequest) -> str:
        """Find the address of a request's client, behind the proxies that are trusted."""
        return self.proxies.client_address(
            request.remote_ip or "", request.headers.get("X-Forwarded-For", "").split(",")
        )

    def tell_refusal(self, request: HTTPServerRequest, why: object) -> None:
        """Log that a request was refused, unless the log has enough of its kind."""
        address = self.address_of(request)
        line = (excerpt(request.path), address, excerpt(str(why), MAX_REASON))
        self.refusals.tell(f"refusals of {counted_as(address)}", "%s from %s: %s", *line)

    def check_address(self, request: HTTPServerRequest) -> None:
        """
        Raises:
            Refused: for an address that has too many connections.
        """
        if self.addresses.limit and self.addresses.full(counted_as(self.address_of(request))):
            raise Refused(429, "too many connections from this address")

    def check_pace(self, request: HTTPServerRequest) -> None:
        """Count a client about whom a worker will be asked.

        Raises:
            Refused: for an address whose clients come too fast.
        """
        if not self.settings.max_address_handshakes:
            return
        if not self.handshakes.admits(counted_as(self.address_of(request)), time.monotonic()):
            raise Refused(429, "too many handshakes from this address: slow down")

    def check_user(self, admitted: Admitted) -> None:
        """
        Raises:
            Refused: for a user who has too many connections.
        """
        limit = self.settings.max_user_connections
        if not admitted.user or not limit:
            return
        user = id_of_user(msgspec.json.decode(admitted.user))
        if user is not None and len(self.connections.of_user(user)) >= limit:
            raise Refused(429, "too many connections of this user")

    def check_origin(self, request: HTTPServerRequest) -> None:
        """
        Raises:
            Refused: for a request of a page that may not make it.
        """
        origin = request.headers.get("Origin")
        if origin is not None and not self.origins.admits(origin, request.host):
            raise Refused(403, "origin not allowed")

    async def authenticate(
        self,
        request: HTTPServerRequest,
        connection: ConnectionId,
        data: str | bytes | None = None,
    ) -> Admission:
        """Ask a worker whose request this is.

        Args:
            data: the first message of a connection, where that has its token.

        Raises:
            Refused: when no worker answered in time.
        """
        request_id = RequestId(f"{connection}-0")
        headers = request.headers
        question = Authenticate(
            id=request_id,
            server=self.server,
            path=request.path,
            query=request.query,
            headers=[(name, _readable(value)) for name, value in headers.get_all()],
            remote_ip=self.address_of(request),
            message=None if data is None else plain.inbound(request_id, data),
            expires=self.clock.now() + self.settings.authenticate_timeout,
        )
        try:
            answer = await self.forwarder.authenticate(question)
        except TimeoutError:
            gone = not self.application.available
            raise await self.nobody(
                "no worker is there" if gone else "no worker answered in time"
            ) from None
        return _usable(answer.admission)

    async def nobody(self, text: str) -> "Refused":
        """Make a refusal for lack of workers; in development it says why files fail to load."""
        if not self.settings.expose_errors:
            return Refused(503, text)
        failure = await self.application.load_failure()
        return Refused(503, f"{text}: {failure}" if failure else text)


class Refused(web.HTTPError):
    """A request that is answered with an HTTP status and a line of text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status)
        self.text = text

    def __str__(self) -> str:
        return f"{self.status_code} {self.text}"


def tell_refusal(handler: web.RequestHandler, why: object) -> None:
    """Log the refusal of a request whose handler knows no services."""
    request = handler.request
    tell = handler.settings.get("tell_refusal")
    if tell is not None:
        tell(request, why)
    else:
        log.info("%s from %s: %s", excerpt(request.path), request.remote_ip, why)


def _readable(value: str) -> str:
    """A header's value as UTF-8 where it is that: Tornado gives its bytes as Latin-1."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _usable(answer: Admission) -> Admission:
    """The answer; or one with status 500, when its user cannot be used."""
    if not isinstance(answer, Admitted):
        return answer
    try:
        id_of_user(msgspec.json.decode(answer.user or b"null"))
    except (msgspec.DecodeError, TypeError) as error:
        log.error("on_authenticate gave no usable user: %s", error)
        return Refusal(500, "internal error")
    return answer

"""Requests on their way: from a client's frame to a worker, and from its outcome to the client.

Every request that is taken from a client ends in exactly one outcome: the worker's, or, when that
does not come in time, an error from here.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable

from push_server import protocols
from push_server.application import Application
from push_server.connections import Connection, Connections
from queue_run.dispatch import Dispatcher
from queue_run.envelopes import Authenticate, Authenticated, Inbound, Outcome, Turn
from queue_run.ids import RequestId
from queue_run.manifest import RouteFacts
from queue_run.settings import Settings

log = logging.getLogger(__name__)

NOT_AVAILABLE = "not available"
NO_ANSWER = "no answer in time"
SHUTTING_DOWN = "the server is shutting down"


class Forwarder:
    """Sends requests to workers and takes their outcomes."""

    def __init__(
        self,
        settings: Settings,
        connections: Connections,
        application: Application,
        dispatcher: Dispatcher,
    ) -> None:
        self._settings = settings
        self._connections = connections
        self._application = application
        self._dispatcher = dispatcher
        self._deadlines: dict[RequestId, asyncio.TimerHandle] = {}
        self._handshakes: dict[RequestId, asyncio.Future[Authenticated]] = {}
        self._draining = False

    # From clients to workers.

    def receive(self, connection: Connection, data: str | bytes) -> Awaitable[None] | None:
        """Take a client's frame; what it returns is to be awaited before the next one is read."""
        connection.heard = True
        if connection.closing:
            log.debug("%s: a message after the close is not read", connection)
            return None
        if self._draining:
            # Until its last outcome is out and the connection closes, nothing more is read.
            return connection.pause()
        request = protocols.inbound(connection.next_request_id(), data)
        route = self._application.route(connection.path)
        if route is None:
            _write(connection, protocols.error_frame(NOT_AVAILABLE))
        elif not route.ordered:
            connection.unordered.add(request.id)
            self._dispatch(connection, route, [request])
        else:
            connection.lane.add(request)
            self._next_turn(connection, route)
        return connection.pause() if self._is_full(connection) else None

    async def authenticate(self, handshake: Authenticate) -> Authenticated:
        """Ask a worker whether a connection may be opened.

        Raises:
            TimeoutError: when no worker answered in time.
        """
        answer: asyncio.Future[Authenticated] = asyncio.get_running_loop().create_future()
        self._handshakes[handshake.id] = answer
        try:
            self._dispatcher.submit(handshake)
            async with asyncio.timeout(self._settings.authenticate_timeout):
                return await answer
        finally:
            del self._handshakes[handshake.id]

    def _next_turn(self, connection: Connection, route: RouteFacts) -> None:
        turn = connection.lane.next_turn()
        if turn:
            self._dispatch(connection, route, turn)

    def _dispatch(self, connection: Connection, route: RouteFacts, requests: list[Inbound]) -> None:
        allowed = route.timeout + self._settings.deadline_grace
        self._dispatcher.submit(
            Turn(
                connection=connection.id,
                path=connection.path,
                query=connection.query,
                user=connection.user,
                requests=requests,
                expires=time.time() + allowed,
            )
        )
        self._arm(connection, requests[0].id, allowed)

    # From workers to clients.

    def settle(self, outcome: Outcome) -> None:
        """Pass a worker's outcome to the client, and let its lane go on."""
        connection = self._connections.get(outcome.connection)
        if connection is None:
            log.debug("%s: its client left before the outcome came", outcome.request)
            return
        if not self._take(connection, outcome.request):
            log.info("%s: an outcome that nobody waits for", outcome.request)
            return
        self._disarm(outcome.request)
        frame = protocols.outcome_frame(outcome)
        if frame is not None:
            _write(connection, frame)
        self._go_on(connection)

    def authenticated(self, answer: Authenticated) -> None:
        """Pass a worker's answer to the handshake that waits for it."""
        waiting = self._handshakes.get(answer.request)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _take(self, connection: Connection, request: RequestId) -> bool:
        if request in connection.unordered:
            connection.unordered.discard(request)
            return True
        return connection.lane.settle(request)

    def _go_on(self, connection: Connection) -> None:
        """After outcomes: the next deadline, the next turn, the next read."""
        head = connection.lane.head
        route = self._application.route(connection.path)
        if head is not None and head not in self._deadlines:
            timeout = route.timeout if route else 0.0
            self._arm(connection, head, timeout + self._settings.deadline_grace)
        elif head is None and route is not None:
            self._next_turn(connection, route)
        elif head is None:
            self._fail(connection, connection.lane.drain(), NOT_AVAILABLE)
        if self._draining:
            self._close_if_idle(connection)
        elif not self._is_full(connection):
            connection.read_on()

    def _is_full(self, connection: Connection) -> bool:
        return connection.lane.full or len(connection.unordered) >= self._settings.max_lane_requests

    def _close_if_idle(self, connection: Connection) -> None:
        if connection.idle:
            connection.close(1001, SHUTTING_DOWN)

    # Deadlines.

    def _arm(self, connection: Connection, request: RequestId, seconds: float) -> None:
        self._deadlines[request] = asyncio.get_running_loop().call_later(
            seconds, self._overdue, connection, request
        )

    def _disarm(self, request: RequestId) -> None:
        deadline = self._deadlines.pop(request, None)
        if deadline is not None:
            deadline.cancel()

    def _overdue(self, connection: Connection, request: RequestId) -> None:
        """No outcome in time: the worker died, or nobody takes requests."""
        self._deadlines.pop(request, None)
        if request in connection.unordered:
            connection.unordered.discard(request)
            given_up = [request]
        else:
            # The turn was with one worker: what follows in it will not come either.
            given_up = connection.lane.abandon()
        log.warning("%s: no outcome in time for %d requests", connection, len(given_up))
        self._fail(connection, given_up, NO_ANSWER)
        self._go_on(connection)

    def _fail(self, connection: Connection, requests: list[RequestId], text: str) -> None:
        for request in requests:
            self._disarm(request)
            _write(connection, protocols.error_frame(text))

    # The end of a connection, and of this process.

    def forget(self, connection: Connection) -> None:
        """The connection is gone: nobody waits for its outcomes."""
        for request in (*connection.lane.drain(), *connection.unordered):
            self._disarm(request)
        connection.unordered.clear()
        connection.read_on()

    async def drain(self, seconds: float) -> None:
        """Read no more, let the outcomes of what was read come in, close each connection.

        Requests without an outcome when so many seconds are over get an error.
        """
        self._draining = True
        for connection in self._connections:
            self._close_if_idle(connection)
        await self._connections.wait_until_empty(seconds)
        for connection in self._connections:
            unanswered = [*connection.lane.drain(), *connection.unordered]
            connection.unordered.clear()
            self._fail(connection, unanswered, SHUTTING_DOWN)
            connection.close(1001, SHUTTING_DOWN)


def _write(connection: Connection, frame: bytes) -> None:
    """Send a frame, but none after the close frame (RFC 6455, 5.5.1)."""
    if not connection.closing:
        connection.transport.write(frame)

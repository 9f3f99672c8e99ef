"""Requests on their way: from a client's frame to a worker, and from its outcome to the client.

Every request that is taken from a client ends in exactly one outcome: the worker's, or, when that
does not come in time, an error from here.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable

from redis.exceptions import RedisError

from push_server.clients import envelope, plain
from push_server.clients.connections import Connection, Connections
from push_server.clients.envelope import Asked
from push_server.clients.quotas import Tally
from push_server.requests.claims import Holder
from push_server.requests.known_application import KnownApplication
from push_server.requests.late_outcomes import LateOutcomes, Wanted
from queue_run.broker.dispatch import Dispatcher
from queue_run.channel.listener import ANSWER_TIMEOUT
from queue_run.contracts.envelopes import Authenticate, Authenticated, Inbound, Outcome, Turn
from queue_run.contracts.ids import RequestId
from queue_run.contracts.manifest import RouteFacts
from queue_run.logs.complaints import Complaints
from queue_run.settings import Settings
from queue_run.storage.clock import Clock

log = logging.getLogger(__name__)

NOT_AVAILABLE = "not available"
TOO_MANY_OF_USER = "too many requests of this user have no answer yet"
TOO_MANY_OF_SESSION = "too many requests of this session: slow down"
NO_ANSWER = "no answer in time"
SHUTTING_DOWN = "the server is shutting down"

#: Lines in full about requests without an outcome, in so many seconds.
OVERDUE_LINES, OVERDUE_PERIOD = 20, 60.0


class Forwarder:
    """Sends requests to workers and takes their outcomes."""

    def __init__(
        self,
        settings: Settings,
        connections: Connections,
        application: KnownApplication,
        dispatcher: Dispatcher,
        late_outcomes: LateOutcomes,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._complaints = Complaints(log)
        #: While nothing is answered, these are all requests of all clients.
        self._overdue_ones = Complaints(log, first=OVERDUE_LINES, period=OVERDUE_PERIOD)
        self._connections = connections
        self._application = application
        self._dispatcher = dispatcher
        self._late_outcomes = late_outcomes
        self._clock = clock
        self._deadlines: dict[RequestId, asyncio.TimerHandle] = {}
        self._handshakes: dict[RequestId, asyncio.Future[Authenticated]] = {}
        self._requests = Tally(settings.max_user_requests)
        self._winding_down = False

    # From clients to workers.

    def receive(self, connection: Connection, data: str | bytes) -> Awaitable[None] | None:
        """Take a plain client's frame; the result, if there is one, is awaited before the next one
        is read."""
        if self._winding_down:
            # Until its last outcome is out and the connection closes, nothing more is read.
            return connection.pause()
        return self._take_on(connection, plain.inbound(connection.next_request_id(), data))

    def ask(self, connection: Connection, asked: Asked) -> Awaitable[None] | None:
        """Take a request of a client that speaks the envelope protocol, like `receive`."""
        state = connection.session
        assert state is not None
        if asked.id in state.open:
            log.debug("%s: request %r is under way already", connection, asked.id)
            return None
        request = envelope.inbound(connection.next_request_id(), asked)
        state.accept(request.id, asked.id)
        if not self._may_claim(connection, state):
            connection.answer(connection.protocol.error(request.id, TOO_MANY_OF_SESSION))
            return None
        return self._take_on(connection, request)

    def _take_on(self, connection: Connection, request: Inbound) -> Awaitable[None] | None:
        if self._requests.full(connection.user_id) and connection.user_id is not None:
            self._complaints.tell(
                f"requests of {connection.user_id}", "%s: %s", connection, TOO_MANY_OF_USER
            )
            connection.answer(connection.protocol.error(request.id, TOO_MANY_OF_USER))
            return None
        self._requests.take(connection.user_id)
        route = self._application.route(connection.path)
        if route is None:
            self._fail(connection, [request.id], NOT_AVAILABLE)
        elif not route.ordered:
            connection.unordered.add(request.id)
            self._dispatch(connection, route, [request])
        else:
            connection.lane.add(request)
            self._next_turn(connection, route)
        return connection.pause() if self._is_full(connection) else None

    def _may_claim(self, connection: Connection, state: envelope.Session) -> bool:
        """Count a request of a session; False when Redis must not remember one more of them."""
        limit = self._settings.max_session_requests
        remembered = 2 * self._settings.session_time
        if not limit or state.counted(time.monotonic(), remembered) <= limit:
            return True
        self._complaints.tell(
            f"session of {connection.id}", "%s: %s", connection, TOO_MANY_OF_SESSION
        )
        return False

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

    async def application_changed(self) -> None:
        """Read the manifest again: workers have left another one, or cannot make one."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await self._application.refresh()
        except (RedisError, OSError) as error:
            log.warning("the manifest could not be read, the next heartbeat tries: %s", error)
        if self._settings.expose_errors and not self._application.available:
            # In development it is known at once that there is no worker: who connects need not
            # wait to learn why. Elsewhere one may come in time.
            self.give_up_handshakes()

    def give_up_handshakes(self) -> None:
        """Let all that wait for a worker end as if their time were over."""
        for answer in self._handshakes.values():
            if not answer.done():
                answer.set_exception(TimeoutError())

    def _next_turn(self, connection: Connection, route: RouteFacts) -> None:
        turn = connection.lane.next_turn()
        if turn:
            self._dispatch(connection, route, turn)

    def _dispatch(self, connection: Connection, route: RouteFacts, requests: list[Inbound]) -> None:
        allowed = route.timeout + self._settings.deadline_grace
        state = connection.session
        self._dispatcher.submit(
            Turn(
                connection=connection.id,
                path=connection.path,
                query=connection.query,
                user=connection.user,
                session=None if state is None else state.id,
                requests=requests,
                expires=self._clock.now() + allowed,
            ),
            None if state is None else [state.claim_name(request.id) for request in requests],
        )
        self._arm(connection, requests[0].id, allowed)

    def held_elsewhere(self, turn: Turn, number: int, holder: Holder) -> None:
        """Look for the outcome of a request that was sent before, for another connection of its
        session. Neither this request nor those behind it in the turn were sent now."""
        connection = self._connections.get(turn.connection)
        if connection is None:
            return
        request = turn.requests[number].id
        connection.lane.give_back(turn.requests[number + 1 :])
        self._complaints.tell(
            connection.id, "%s: has been sent before, as %s", request, holder.request
        )
        # Longer than its own deadline here: that is what ends the waiting.
        route = self._application.route(connection.path)
        allowed = (route.timeout if route else 0.0) + 2 * self._settings.deadline_grace
        self._late_outcomes.want(
            holder, Wanted(connection.id, request, until=time.monotonic() + allowed)
        )

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
        self._requests.give_back(connection.user_id)
        frame = connection.protocol.outcome(outcome)
        if frame is not None:
            connection.answer(frame)
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
        """Go on after outcomes: set the next deadline, send the next turn, read on."""
        head = connection.lane.head
        route = self._application.route(connection.path)
        if head is not None and head not in self._deadlines:
            timeout = route.timeout if route else 0.0
            self._arm(connection, head, timeout + self._settings.deadline_grace)
        elif head is None and route is not None:
            self._next_turn(connection, route)
        elif head is None:
            self._fail(connection, connection.lane.give_up(), NOT_AVAILABLE)
        if self._winding_down and connection.session is None:
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
        """Fail requests that had no outcome in time: the worker died, or none takes requests."""
        self._deadlines.pop(request, None)
        if request in connection.unordered:
            connection.unordered.discard(request)
            given_up = [request]
        else:
            # The turn was with one worker: what follows in it will not come either.
            given_up = connection.lane.abandon()
        self._overdue_ones.tell(
            "requests without an outcome",
            "%s: no outcome in time for %d requests",
            *(connection, len(given_up)),
            level=logging.WARNING,
        )
        self._fail(connection, given_up, NO_ANSWER)
        self._go_on(connection)

    def _fail(self, connection: Connection, requests: list[RequestId], text: str) -> None:
        self._requests.give_back(connection.user_id, len(requests))
        for request in requests:
            self._disarm(request)
            connection.answer(connection.protocol.error(request, text))

    # The end of a connection, and of this process.

    def forget(self, connection: Connection) -> None:
        """Give up the requests of a connection that is gone: nobody waits for their outcomes."""
        given_up = [*connection.lane.give_up(), *connection.unordered]
        self._requests.give_back(connection.user_id, len(given_up))
        for request in given_up:
            self._disarm(request)
        connection.unordered.clear()
        connection.read_on()

    async def wind_down(self, seconds: float) -> None:
        """Let every client go, with the outcomes of what was read from it.

        Plain clients are read no more, and closed when their outcomes are out; those without one
        when so many seconds are over get an error. Clients that can resume are told to, at moments
        spread over a while, and are served until they go.
        """
        self._winding_down = True
        spread = min(self._settings.reconnect_spread, seconds / 2)
        for connection in self._connections:
            if connection.session is None:
                self._close_if_idle(connection)
            else:
                connection.write(envelope.reconnect_frame(random.uniform(0, spread)))
        await self._connections.wait_until_empty(seconds)
        for connection in self._connections:
            if connection.session is None:
                unanswered = [*connection.lane.give_up(), *connection.unordered]
                connection.unordered.clear()
                self._fail(connection, unanswered, SHUTTING_DOWN)
                connection.close(1001, SHUTTING_DOWN)
            else:
                # What it asked has its outcome after it has resumed elsewhere (1012: RFC 6455's
                # registry, "service restart").
                connection.close(1012, SHUTTING_DOWN)

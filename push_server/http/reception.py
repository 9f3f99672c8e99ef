"""The reception of clients, between an open socket and the other parts of the push server.

Clients come in, their messages are handed on, and their end is noted.
"""

import logging
from collections.abc import Awaitable
from sys import intern
from typing import assert_never

import msgspec
from tornado.httputil import HTTPServerRequest

from push_server.clients.connections import Connection
from push_server.clients.envelope import (
    PONG_FRAME,
    Asked,
    Misunderstood,
    Pinged,
    Ponged,
    Resume,
    Session,
    Start,
    misunderstood_frame,
)
from push_server.clients.lanes import Lane
from push_server.http.services import SHUTTING_DOWN, Refused, Services
from push_server.transport.wire import ClientLimits, Wire
from queue_run.contracts.addresses import counted_as
from queue_run.contracts.envelopes import Admitted, Refusal, TokenWanted
from queue_run.contracts.ids import ConnectionId, id_of_user
from queue_run.logs.complaints import Complaints

log = logging.getLogger(__name__)

#: Close code for a client that is not, or no longer, authorized.
UNAUTHORIZED = 4401
#: Close code for a client that cannot be served for now.
TRY_AGAIN_LATER = 1013

#: A user who is nobody, as JSON.
NOBODY = msgspec.Raw(b"null")


class Reception:
    """Receives what the clients of this push server send; one for all of them.

    The state of each client is in its connection.
    """

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self.services = services
        self._complaints = Complaints(log)
        self.limits = ClientLimits(
            max_message_bytes=settings.max_request_bytes,
            max_unsent_bytes=settings.max_outbox_bytes,
            max_message_rate=settings.max_message_rate,
            complaints=services.refusals,
        )

    def enter(
        self,
        wire: Wire,
        connection_id: ConnectionId,
        answer: Admitted | None,
        *,
        path: str,
        query: str,
        enveloped: bool,
    ) -> None:
        """Make an open socket a connection: from now on messages reach it, and its own are
        answered.

        Args:
            answer: who it is; None without authentication.
        """
        services = self.services
        user = NOBODY if answer is None or not answer.user else msgspec.Raw(answer.user)
        user_id = None if user is NOBODY else id_of_user(msgspec.json.decode(user))
        session = None
        if enveloped:
            session = Session(services.resumption.seals.new(user_id), services.position.offset)
        connection = Connection(
            connection_id,
            wire,
            Lane(
                max_requests=services.settings.max_lane_requests,
                max_bytes=services.settings.max_lane_bytes,
            ),
            # Many have the same.
            path=intern(path),
            query=query,
            user=user,
            user_id=user_id,
            session=session,
        )
        wire.belong_to(self, connection)
        services.addresses.take(counted_as(wire.address))
        services.connections.add(connection)
        services.liveness.add(connection)
        if session is not None:
            self._welcome(connection, session)
        log.debug("%s: open at %s", connection, path)
        if answer is not None and answer.expires is not None:
            wire.limit(answer.expires - services.clock.now(), _expire, connection)
        if services.closing:
            connection.close(1001, SHUTTING_DOWN)

    def inbound(self, owner: Connection, data: str | bytes) -> Awaitable[None] | None:
        if owner.closing:
            log.debug("%s: a message after the close is not read", owner)
            return None
        if owner.session is None:
            return self.services.forwarder.receive(owner, data)
        return self._take_frame(owner, owner.session, data)

    def heard(self, owner: Connection) -> None:
        owner.heard = True

    def closed(self, owner: Connection, code: int | None) -> None:
        services = self.services
        owner.closing = True
        services.resumption.closed(owner)
        services.connections.remove(owner)
        services.liveness.remove(owner)
        services.addresses.give_back(counted_as(owner.transport.address))
        services.forwarder.forget(owner)
        log.debug("%s: closed (%s)", owner, code or "no close frame")

    # The envelope protocol.

    def _welcome(self, connection: Connection, session: Session) -> None:
        services = self.services
        connection.write(
            session.welcome(
                connection=connection.id,
                user=connection.user_id,
                epoch=services.position.epoch,
                heartbeat=services.settings.ping_interval,
                resume=services.settings.session_time,
            )
        )
        services.resumption.hold(connection)

    def _take_frame(
        self, connection: Connection, session: Session, data: str | bytes
    ) -> Awaitable[None] | None:
        event = session.received(data)
        services = self.services
        match event:
            case Asked():
                services.resumption.start(connection)
                return services.forwarder.ask(connection, event)
            case Ponged():
                pass
            case Pinged():
                connection.write(PONG_FRAME)
            case Resume():
                # Its requests belong to the session that it is about to have.
                return services.resumption.resume(connection, event)
            case Start():
                services.resumption.start(connection)
            case Misunderstood():
                services.resumption.start(connection)
                self._complaints.tell(
                    str(connection), "%s: a frame that means nothing: %s", connection, event.error
                )
                connection.answer(misunderstood_frame(event))
            case _:
                assert_never(event)
        return None


class Guest:
    """A client whose first message must have its token; it is no connection yet.

    Only a guest keeps its HTTP request, which `on_authenticate` gets once more with the token.
    """

    def __init__(
        self,
        reception: Reception,
        wire: Wire,
        connection_id: ConnectionId,
        request: HTTPServerRequest,
        *,
        enveloped: bool,
    ) -> None:
        self._reception = reception
        self._wire = wire
        self._id = connection_id
        self._request = request
        self._enveloped = enveloped

    def expect_token(self) -> None:
        """Wait for the first message, for `authenticate_timeout` seconds at most."""
        seconds = self._reception.services.settings.authenticate_timeout
        self._wire.belong_to(self, self._id)
        self._reception.services.addresses.take(counted_as(self._wire.address))
        self._wire.limit(seconds, self._wire.close, UNAUTHORIZED, "no token came in time")

    def inbound(self, owner: ConnectionId, data: str | bytes) -> Awaitable[None]:
        # It came in time; how long the answer may take is a limit of its own.
        self._wire.limit(None, self._wire.close)
        return self._take_token(data)

    def heard(self, owner: ConnectionId) -> None:
        """Ignore a sign of life: a guest is dropped when its token does not come in time."""

    def closed(self, owner: ConnectionId, code: int | None) -> None:
        self._reception.services.addresses.give_back(counted_as(self._wire.address))
        log.debug("%s: closed (%s) without a token", owner, code or "no close frame")

    async def _take_token(self, data: str | bytes) -> None:
        request = self._request
        try:
            answer = await self._reception.services.authenticate(request, self._id, data)
        except Refused as refusal:
            self._wire.close(TRY_AGAIN_LATER, refusal.text)
            return
        match answer:
            case Refusal():
                self._turn_away(UNAUTHORIZED, answer.reason or "not authorized")
            case TokenWanted():
                # A worker that asks for another one does not know what it wants.
                self._turn_away(UNAUTHORIZED, "not authorized")
            case Admitted():
                self._enter(answer)
            case _:
                assert_never(answer)

    def _turn_away(self, code: int, reason: str) -> None:
        self._reception.services.tell_refusal(self._request, reason)
        self._wire.close(code, reason)

    def _enter(self, admitted: Admitted) -> None:
        if self._wire.over:
            return
        services, request = self._reception.services, self._request
        try:
            services.check_user(admitted)
        except Refused as refusal:
            self._turn_away(TRY_AGAIN_LATER, refusal.text)
            return
        # As a connection, it is counted once more.
        services.addresses.give_back(counted_as(self._wire.address))
        self._reception.enter(
            self._wire,
            self._id,
            admitted,
            path=request.path,
            query=request.query,
            enveloped=self._enveloped,
        )


def _expire(connection: Connection) -> None:
    connection.close(UNAUTHORIZED, "the token has expired")

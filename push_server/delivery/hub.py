"""The hub, which delivers what comes over the channel to the connections."""

import asyncio
import collections
import logging
from collections.abc import Awaitable
from typing import TypeAlias, assert_never

from push_server.clients.connections import Connection, Connections
from push_server.delivery.fan_out import FRAMES_AT_ONCE, Delivery
from push_server.delivery.position import Position
from push_server.delivery.session_rooms import SessionRooms
from push_server.delivery.trimming import Trimming
from push_server.delivery.window import Window
from push_server.requests.forwarder import Forwarder
from queue_run.channel.listener import Entry, Offset, parse_offset
from queue_run.contracts.envelopes import (
    ApplicationChanged,
    Authenticated,
    ChannelEnvelope,
    CloseConnection,
    CloseUsers,
    Hello,
    Membership,
    Outcome,
    ToConnection,
    ToRoom,
    ToUsers,
    decode,
)
from queue_run.errors import InvalidEnvelope
from queue_run.logs.complaints import Complaints

log = logging.getLogger(__name__)

#: What an outcome takes, and the handshake that an answer lets go on: as much as so many frames
#: kept back.
OUTCOME_COST, HANDSHAKE_COST = 100, 400
#: Envelope ids that are remembered, to drop the second copy of a publish that was repeated.
RECENT_IDS = 50_000


#: What is for one connection, and keeps its order.
ForOne: TypeAlias = Outcome | ToConnection | CloseConnection


class Hub:
    """Delivers what the listener reads: users' messages, replies, outcomes.

    A reply never overtakes what its handler sent: replies and users' messages travel on two
    streams, so a reply that names a broadcast offset waits, and everything behind it, until that
    offset has been delivered.
    """

    def __init__(
        self,
        connections: Connections,
        forwarder: Forwarder,
        *,
        broadcast: str,
        position: Position,
        window: Window,
        session_rooms: SessionRooms,
        trimming: Trimming,
        max_rooms: int = 1_000,
    ) -> None:
        self._connections = connections
        self._forwarder = forwarder
        self._broadcast = broadcast
        self._position = position
        self._window = window
        self._session_rooms = session_rooms
        self._max_rooms = max_rooms
        self._complaints = Complaints(log)
        self._trimming = trimming
        self._held: collections.deque[ForOne] = collections.deque()
        self._delivery = Delivery()
        self._recent: collections.OrderedDict[bytes, None] = collections.OrderedDict()

    def deliver(self, batch: list[Entry]) -> Awaitable[None] | None:
        """Deliver entries; the result, if there is one, is awaited before the next entries."""
        if len(batch) == 1:
            delivery = self._delivery
            delivery.writes = delivery.bytes = 0
            return self._take(batch[0])
        return self._deliver_together(batch)

    async def _deliver_together(self, batch: list[Entry]) -> None:
        delivery = self._delivery
        delivery.begin()
        for entry in batch:
            waiting = self._take(entry)
            if waiting is not None:
                await waiting
            elif delivery.writes >= FRAMES_AT_ONCE:
                delivery.writes = 0
                await asyncio.sleep(0)
        await delivery.end()

    def release(self) -> None:
        """Deliver everything that is held: the entries that it waits for have been lost."""
        while self._held:
            self._pass_on(self._held.popleft())

    def prime(self, entry: Entry) -> None:
        """Keep an entry from before this server's time for clients that missed it."""
        try:
            envelope = decode(entry.data)
        except InvalidEnvelope as error:
            log.error("%s: %s", entry.stream, error)
            return
        if self._is_new(envelope.id):
            self._window.append(entry.offset, envelope, len(entry.data))

    def take_late(self, outcome: Outcome) -> None:
        """Deliver an outcome that was found elsewhere."""
        if self._held or not self._is_due(outcome):
            self._held.append(outcome)
        else:
            self._to_connection(outcome)

    def _take(self, entry: Entry) -> Awaitable[None] | None:
        """Deliver an entry; the result, if there is one, does the rest when it is awaited."""
        waiting = None
        try:
            envelope = decode(entry.data)
            if self._is_new(envelope.id):
                if entry.stream == self._broadcast:
                    # First, so that a client that resumes meanwhile finds it.
                    self._window.append(entry.offset, envelope, len(entry.data))
                    self._position.begun = entry.offset
                waiting = self._deliver(entry, envelope)
        except InvalidEnvelope as error:
            log.error("%s: %s", entry.stream, error)
        except Exception:
            # One envelope must not end the delivery of all others.
            log.exception("an entry of %s could not be delivered", entry.stream)
        if waiting is not None:
            return self._take_rest(entry, waiting)
        self._taken(entry)
        return None

    async def _take_rest(self, entry: Entry, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except Exception:
            log.exception("an entry of %s could not be delivered", entry.stream)
        self._taken(entry)

    def _taken(self, entry: Entry) -> None:
        self._trimming.has_read(entry)
        if entry.stream == self._broadcast:
            self._position.move(entry.offset)
            while self._held and self._is_due(self._held[0]):
                self._pass_on(self._held.popleft())

    def _pass_on(self, held: ForOne) -> None:
        try:
            self._to_connection(held)
        except Exception:
            # One envelope must not end the delivery of those that were held behind it.
            log.exception("what was held for a connection could not be delivered")

    def _is_new(self, envelope_id: bytes) -> bool:
        if envelope_id in self._recent:
            log.info("dropped the second copy of a message")
            return False
        self._recent[envelope_id] = None
        if len(self._recent) > RECENT_IDS:
            self._recent.popitem(last=False)
        return True

    def _deliver(self, entry: Entry, envelope: ChannelEnvelope) -> Awaitable[None] | None:
        # The most frequent kinds come first.
        match envelope:
            case ToUsers():
                receivers = self._connections.of_users(envelope.users)
                return self._delivery.fan_out(entry.offset, envelope.message, receivers)
            case Outcome():
                if self._may_be_asked_again(envelope):
                    self._trimming.keep(entry)
                self._answer(envelope)
            case ToRoom():
                receivers = self._in_room(envelope)
                return self._delivery.fan_out(entry.offset, envelope.message, receivers)
            case ToConnection():
                return self._to_session(entry, envelope)
            case Membership():
                self._change_membership(envelope, entry.offset)
            case Authenticated():
                self._forwarder.authenticated(envelope)
                self._delivery.writes += HANDSHAKE_COST
            case CloseUsers():
                for connection in self._connections.of_users(envelope.users):
                    connection.close(envelope.code, envelope.reason)
            case CloseConnection():
                self._close(entry, envelope)
            case ApplicationChanged():
                return self._forwarder.application_changed()
            case Hello():
                log.debug("%s is open", entry.stream)
            case _:
                assert_never(envelope)
        return None

    def _to_session(self, entry: Entry, envelope: ToConnection) -> Awaitable[None] | None:
        """Deliver a message for one connection, which may be another one by now."""
        if envelope.session is None:
            self._answer(envelope)
            return None
        receiver = self._connections.of_session(envelope.session)
        receivers = [receiver] if receiver is not None else []
        return self._delivery.fan_out(entry.offset, envelope.message, receivers)

    def _close(self, entry: Entry, envelope: CloseConnection) -> None:
        """Close a connection; on this server's own stream, behind what is held for others."""
        if entry.stream == self._broadcast:
            self._to_connection(envelope)
        else:
            self._answer(envelope)

    def _answer(self, envelope: ForOne) -> None:
        """Deliver what is for one connection, or hold it."""
        if self._held or not self._is_due(envelope):
            self._held.append(envelope)
        else:
            self._to_connection(envelope)
            self._delivery.writes += OUTCOME_COST

    def _may_be_asked_again(self, outcome: Outcome) -> bool:
        """Tell whether a session may come back for this outcome.

        The client of a connection that is not here may be on its way to another push server.
        """
        connection = self._connections.get(outcome.connection)
        return connection is None or connection.session is not None

    def _is_due(self, envelope: ForOne) -> bool:
        after = envelope.after if isinstance(envelope, Outcome) else None
        if after is None:
            return True
        try:
            return parse_offset(after) <= self._position.offset
        except ValueError:
            log.error("an outcome waits for the offset %r, which is none", after)
            return True

    def _to_connection(self, envelope: ForOne) -> None:
        if isinstance(envelope, Outcome):
            self._forwarder.settle(envelope)
            return
        connection = self._connections.get(envelope.connection)
        if connection is None:
            log.debug("%s: left before its message came", envelope.connection)
            return
        match envelope:
            case CloseConnection():
                connection.close(envelope.code, envelope.reason)
            case ToConnection():
                connection.answer(connection.protocol.message(envelope.message))
            case _:
                assert_never(envelope)

    def _in_room(self, envelope: ToRoom) -> list[Connection]:
        return [
            connection
            for connection in self._connections.of_room(envelope.room)
            if not _spares(envelope, connection)
        ]

    def _change_membership(self, envelope: Membership, offset: Offset) -> None:
        change = self._connections.join if envelope.joins else self._connections.leave
        changed = self._connections.of_users(envelope.users)
        one = None
        if envelope.session is not None:
            one = self._connections.of_session(envelope.session)
        elif envelope.connection is not None:
            one = self._connections.get(envelope.connection)
        changed += [one] if one is not None else []
        for connection in changed:
            if connection.session is not None and offset <= connection.session.since:
                # Its session has begun later, on a push server that was further.
                continue
            if envelope.joins and self._is_full(connection, envelope.room):
                continue
            change(connection, envelope.room)
            if connection.session is not None:
                session = connection.session.id
                self._session_rooms.changed(
                    session, envelope.room, joins=envelope.joins, offset=offset
                )

    def _is_full(self, connection: Connection, room: str) -> bool:
        """Refuse a room to a connection that is in `max_rooms` already, and tell its client.

        Returns:
            Whether the room was refused.
        """
        if len(connection.rooms) < self._max_rooms or room in connection.rooms:
            return False
        text = f"a connection may be in {self._max_rooms} rooms at most"
        self._complaints.tell(f"rooms of {connection.id}", "%s: %s", connection, text)
        connection.answer(connection.protocol.refusal(text))
        return True


def _spares(envelope: ToRoom, connection: Connection) -> bool:
    """Tell whether the sender of a message to a room has excluded this connection."""
    state = connection.session
    return (
        connection.id == envelope.without_connection
        or (state is not None and state.id == envelope.without_session)
        or (envelope.without_user is not None and connection.user_id == envelope.without_user)
    )

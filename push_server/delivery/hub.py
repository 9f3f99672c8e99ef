"""From the channel to the connections."""

import asyncio
import collections
import logging
from collections.abc import Awaitable

from push_server.clients import plain
from push_server.clients.connections import Connection, Connections
from push_server.clients.envelope import Envelope, Phase
from push_server.clients.envelope import message_frame as envelope_frame
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
from queue_run.contracts.messages import Message
from queue_run.errors import InvalidEnvelope
from queue_run.logs.complaints import Complaints

log = logging.getLogger(__name__)

#: Writes to sockets, and frames kept back for one, after which the loop gets to do its other work.
WRITES_AT_ONCE = 200
FRAMES_AT_ONCE = 5_000
#: What an outcome takes, and the handshake that an answer lets go on: as much as so many frames
#: kept back.
OUTCOME_COST, HANDSHAKE_COST = 100, 400
#: Bytes of messages after which what was kept back is sent, and what the kernel did not take at
#: once gets its turn.
BYTES_AT_ONCE = 64 * 1024
#: Envelope ids that are remembered, to drop the second copy of a publish that was repeated.
RECENT_IDS = 50_000


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
        self._held: collections.deque[ChannelEnvelope] = collections.deque()
        #: Of the batch, since the loop had its turn.
        self._writes = self._bytes = 0
        #: Connections whose messages are kept back until the batch is through; None while a batch
        #: has one entry.
        self._corked: list[Connection] | None = None
        self._recent: collections.OrderedDict[bytes, None] = collections.OrderedDict()

    def deliver(self, batch: list[Entry]) -> Awaitable[None] | None:
        """Deliver entries; what it returns is to be awaited before the next ones."""
        self._writes = self._bytes = 0
        if len(batch) == 1:
            return self._take(batch[0])
        return self._deliver_together(batch)

    async def _deliver_together(self, batch: list[Entry]) -> None:
        """The messages of one batch for one connection leave in one piece."""
        self._corked = []
        for entry in batch:
            waiting = self._take(entry)
            if waiting is not None:
                await waiting
            elif self._writes >= FRAMES_AT_ONCE:
                self._writes = 0
                await asyncio.sleep(0)
        await self._uncork()
        self._corked = None

    def release(self) -> None:
        """Let everything held go: what it waits for has been lost."""
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
        """Deliver an entry; what it returns does the rest of it."""
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

    def _pass_on(self, held: ChannelEnvelope) -> None:
        try:
            self._to_connection(held)
        except Exception:
            # As above: nor the delivery of what was held behind it.
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
        match envelope:
            case ToUsers():
                receivers = self._connections.of_users(envelope.users)
                return self._fan_out(entry.offset, envelope.message, receivers)
            case ToRoom():
                receivers = self._in_room(envelope)
                return self._fan_out(entry.offset, envelope.message, receivers)
            case ToConnection() if envelope.session is not None:
                receiver = self._connections.of_session(envelope.session)
                receivers = [receiver] if receiver is not None else []
                return self._fan_out(entry.offset, envelope.message, receivers)
            case Membership():
                self._change_membership(envelope, entry.offset)
            case CloseUsers():
                for connection in self._connections.of_users(envelope.users):
                    connection.close(envelope.code, envelope.reason)
            case CloseConnection() if entry.stream == self._broadcast:
                self._to_connection(envelope)
            case ApplicationChanged():
                return self._forwarder.application_changed()
            case Authenticated():
                self._forwarder.authenticated(envelope)
                self._writes += HANDSHAKE_COST
            case Hello():
                log.debug("%s is open", entry.stream)
            case _:
                self._answer(entry, envelope)
        return None

    def _answer(self, entry: Entry, envelope: ChannelEnvelope) -> None:
        """Deliver what is for one connection, or hold it."""
        if isinstance(envelope, Outcome) and self._may_be_asked_again(envelope):
            self._trimming.keep(entry)
        if self._held or not self._is_due(envelope):
            self._held.append(envelope)
        else:
            self._to_connection(envelope)
            self._writes += OUTCOME_COST

    def _may_be_asked_again(self, outcome: Outcome) -> bool:
        """Whether a session may come back for it. Who is not here may be on the way elsewhere."""
        connection = self._connections.get(outcome.connection)
        return connection is None or connection.envelope is not None

    def _is_due(self, envelope: ChannelEnvelope) -> bool:
        after = envelope.after if isinstance(envelope, Outcome) else None
        if after is None:
            return True
        try:
            return parse_offset(after) <= self._position.offset
        except ValueError:
            log.error("an outcome waits for the offset %r, which is none", after)
            return True

    def _to_connection(self, envelope: ChannelEnvelope) -> None:
        if isinstance(envelope, Outcome):
            self._forwarder.settle(envelope)
        elif isinstance(envelope, ToConnection | CloseConnection):
            connection = self._connections.get(envelope.connection)
            if connection is None:
                log.debug("%s: left before its message came", envelope.connection)
            elif isinstance(envelope, CloseConnection):
                connection.close(envelope.code, envelope.reason)
            else:
                connection.answer(connection.protocol.message(envelope.message))

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
            if connection.envelope is not None and offset <= connection.envelope.since:
                # Its session has begun later, on a push server that was further.
                continue
            if envelope.joins and self._is_full(connection, envelope.room):
                continue
            change(connection, envelope.room)
            if connection.envelope is not None:
                session = connection.envelope.session
                self._session_rooms.changed(
                    session, envelope.room, joins=envelope.joins, offset=offset
                )

    def _is_full(self, connection: Connection, room: str) -> bool:
        """Whether a connection may join no other room; it is told."""
        if len(connection.rooms) < self._max_rooms or room in connection.rooms:
            return False
        text = f"a connection may be in {self._max_rooms} rooms at most"
        self._complaints.tell(f"rooms of {connection.id}", "%s: %s", connection, text)
        connection.answer(connection.protocol.refusal(text))
        return True

    def _fan_out(
        self, offset: Offset, message: Message, receivers: list[Connection]
    ) -> Awaitable[None] | None:
        if not receivers:
            return None
        if len(receivers) == 1 and self._corked is None and receivers[0].envelope is None:
            # As most are: a message alone, to a user with one plain client.
            receivers[0].write(plain.message_frame(message))
            return None
        fan_out = _FanOut(offset, message)
        self._bytes += len(fan_out.frame)
        at_once = WRITES_AT_ONCE if self._corked is None else FRAMES_AT_ONCE
        if self._writes + len(receivers) > at_once or self._bytes >= BYTES_AT_ONCE:
            return self._fan_out_in_parts(fan_out, receivers, at_once)
        self._writes += len(receivers)
        self._write(receivers, fan_out)
        return None

    async def _fan_out_in_parts(
        self, fan_out: "_FanOut", receivers: list[Connection], at_once: int
    ) -> None:
        """Let the loop do its other work in between: reading, and sending what the kernel did not
        take at once."""
        for start in range(0, len(receivers), at_once):
            self._write(receivers[start : start + at_once], fan_out)
            await asyncio.sleep(0)
        self._writes = 0
        if self._bytes >= BYTES_AT_ONCE:
            self._bytes = 0
            await self._uncork()
            await asyncio.sleep(0)

    def _write(self, receivers: list[Connection], fan_out: "_FanOut") -> None:
        corked, plain_frame = self._corked, fan_out.frame
        for connection in receivers:
            if connection.envelope is None:
                frame = plain_frame
            elif (wrapped := fan_out.wrapped_for(connection.envelope)) is not None:
                frame = wrapped
            else:
                continue
            if corked is not None and connection.corked is None:
                connection.cork()
                corked.append(connection)
            connection.write(frame)

    async def _uncork(self) -> None:
        """Send what was kept back."""
        corked = self._corked
        if not corked:
            return
        self._corked = []
        for start in range(0, len(corked), WRITES_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            for connection in corked[start : start + WRITES_AT_ONCE]:
                try:
                    connection.uncork()
                except Exception:
                    log.exception("%s: what was kept back could not be sent", connection)


class _FanOut:
    """A message on its way to many: encoded once for each protocol that they speak."""

    __slots__ = ("_message", "_offset", "_wrapped", "frame")

    def __init__(self, offset: Offset, message: Message) -> None:
        self._offset = offset
        self._message = message
        #: For plain clients.
        self.frame = plain.message_frame(message)
        self._wrapped: bytes | None = None

    def wrapped_for(self, state: Envelope) -> bytes | None:
        """The bytes for a client that speaks the envelope protocol; None when it has the message,
        or will have it later."""
        if state.phase is not Phase.LIVE or self._offset <= state.offset:
            return None
        if self._wrapped is None:
            self._wrapped = envelope_frame(self._message, self._offset)
        return self._wrapped


def _spares(message: ToRoom, connection: Connection) -> bool:
    """Whether the sender of a message to a room has excluded this connection."""
    state = connection.envelope
    return (
        connection.id == message.without_connection
        or (state is not None and state.session == message.without_session)
        or (message.without_user is not None and connection.user_id == message.without_user)
    )

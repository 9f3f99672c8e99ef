"""Delivery from the channel to the clients of a test: a push server's work, without a server."""

import itertools
import threading
from collections.abc import Iterable
from typing import assert_never

from queue_run.application.requests import SentMessage
from queue_run.channel.memberships import Noted
from queue_run.channel.publisher import Counted, Publisher
from queue_run.channel.receipts import Receipt, finished
from queue_run.contracts.answers import Answer
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
from queue_run.contracts.ids import ConnectionId, UserId
from queue_run.contracts.messages import error_message
from queue_run.testing.connections import Connection, decoded


class KitDelivery:
    """The clients that are connected, and all messages that were sent."""

    def __init__(self) -> None:
        self._connections: dict[ConnectionId, Connection] = {}
        self._numbers = itertools.count(1)
        self._sent: list[SentMessage] = []
        # Handlers send from several threads.
        self._lock = threading.RLock()

    def new_id(self) -> ConnectionId:
        return ConnectionId(f"test-{next(self._numbers)}")

    def add(self, connection: Connection) -> None:
        with self._lock:
            self._connections[connection.id] = connection

    def remove(self, connection: Connection) -> None:
        with self._lock:
            self._connections.pop(connection.id, None)

    def get(self, connection: ConnectionId) -> Connection | None:
        return self._connections.get(connection)

    @property
    def online(self) -> list[UserId]:
        """The users with open connections, each once, in the order of their first one."""
        with self._lock:
            users = (each.user_id for each in self._open)
            return list(dict.fromkeys(user for user in users if user is not None))

    @property
    def sent(self) -> list[SentMessage]:
        with self._lock:
            return list(self._sent)

    def clear(self) -> None:
        with self._lock:
            self._sent.clear()

    def deliver(self, envelope: ChannelEnvelope) -> None:
        """Deliver an envelope at once to the connections that it is addressed to."""
        with self._lock:
            match envelope:
                case ToUsers():
                    self._note(envelope, users=tuple(envelope.users))
                    for connection in self._of_users(envelope.users):
                        connection.take(envelope.message)
                case ToRoom():
                    self._note(envelope, room=envelope.room)
                    for connection in self._in_room(envelope):
                        connection.take(envelope.message)
                case ToConnection():
                    self._note(envelope, connection=envelope.connection)
                    for connection in self._one(envelope.connection):
                        connection.take(envelope.message)
                case CloseUsers():
                    for connection in self._of_users(envelope.users):
                        connection.close(envelope.code, envelope.reason)
                case CloseConnection():
                    for connection in self._one(envelope.connection):
                        connection.close(envelope.code, envelope.reason)
                case Membership():
                    self._change_membership(envelope)
                case Outcome():
                    self._answer(envelope)
                case Authenticated() | ApplicationChanged() | Hello():
                    # Between a worker and a push server: nobody here is told of them.
                    pass
                case _:
                    assert_never(envelope)

    def _note(
        self,
        envelope: ToUsers | ToRoom | ToConnection,
        *,
        users: tuple[UserId, ...] = (),
        room: str | None = None,
        connection: ConnectionId | None = None,
    ) -> None:
        data = decoded(envelope.message)
        self._sent.append(SentMessage(data=data, users=users, room=room, connection=connection))

    def _answer(self, outcome: Outcome) -> None:
        message = outcome.reply if outcome.error is None else error_message(outcome.error)
        if message is not None:
            for connection in self._one(outcome.connection):
                connection.take(message)

    @property
    def _open(self) -> list[Connection]:
        return [each for each in self._connections.values() if each.is_open]

    def _one(self, connection_id: ConnectionId | None) -> list[Connection]:
        found = self._connections.get(connection_id) if connection_id is not None else None
        return [found] if found is not None and found.is_open else []

    def _of_users(self, users: Iterable[UserId]) -> list[Connection]:
        wanted = set(users)
        return [each for each in self._open if each.user_id in wanted]

    def _in_room(self, envelope: ToRoom) -> list[Connection]:
        return [
            each
            for each in self._open
            if envelope.room in each.rooms
            and each.id != envelope.without_connection
            and (envelope.without_user is None or each.user_id != envelope.without_user)
        ]

    def _change_membership(self, envelope: Membership) -> None:
        for connection in self._one(envelope.connection) + self._of_users(envelope.users):
            if envelope.joins:
                connection.rooms.add(envelope.room)
            else:
                connection.rooms.discard(envelope.room)


class DeliveringPublisher(Publisher):
    """A publisher whose entries reach the clients at once, in whatever thread."""

    def __init__(self, delivery: KitDelivery) -> None:
        # Without the base's own set-up, which is Redis.
        self._delivery = delivery
        self._offsets = itertools.count(1)

    def publish(
        self,
        stream: str,
        data: bytes,
        *,
        max_entries: int,
        create: bool = True,
        share: bool = False,
        counted: Counted | None = None,
        noted: Noted | None = None,
    ) -> Answer[Receipt]:
        sending = self.submit(stream, data, max_entries=max_entries, counted=counted)
        sending.now()
        return sending

    def submit(
        self,
        stream: str,
        data: bytes,
        *,
        max_entries: int,
        create: bool = True,
        share: bool = False,
        counted: Counted | None = None,
        noted: Noted | None = None,
    ) -> Answer[Receipt]:
        online = None
        if counted is not None:
            online = len({str(user) for user in self._delivery.online}.intersection(counted[1]))
        self._delivery.deliver(decode(data))
        return finished(Receipt(f"{next(self._offsets)}-0", online))

    def flush(self) -> None:
        """Do nothing: no entry ever waits."""

    def close(self) -> None:
        """Do nothing: no link is open."""

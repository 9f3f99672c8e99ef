"""The recent part of the broadcast stream, from which clients that come back get what they missed.

Pure. Bounded by age and by bytes. Entries are listed under whom they are for, so that a resume
costs what it brings, and not what the window holds.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple, TypeAlias

import msgspec

from push_server.delivery.room_history import RoomChange, RoomHistory
from queue_run.channel.listener import Offset
from queue_run.contracts.envelopes import ChannelEnvelope, Membership, ToConnection, ToRoom, ToUsers
from queue_run.contracts.ids import UserId
from queue_run.contracts.messages import Message

#: A message to more users than this is looked at by each resume, instead of being listed under
#: each of its users.
MANY_USERS = 64
#: What an entry takes in memory beside its bytes on the wire, and each user under whom it stands:
#: bytes, measured.
ENTRY_OVERHEAD = 650
USER_OVERHEAD = 100
#: Between users: a byte that no UTF-8 holds.
_SEPARATOR = b"\xff"

Kept: TypeAlias = ToUsers | ToRoom | ToConnection | Membership
_Key: TypeAlias = tuple[str, str]
_MANY: _Key = ("many", "")
#: Changes of rooms stand apart: of these, also those before a client's offset are looked at.
_MANY_CHANGES: _Key = ("changes of many", "")


class KeptEntry(msgspec.Struct, frozen=True):
    offset: Offset
    envelope: Kept
    #: The users of a message to many: a seventh of what a list of them takes.
    crowd: bytes
    #: In memory, in bytes.
    size: int

    def is_for(self, user: UserId) -> bool:
        """Tell whether an entry for many users is for this one, too."""
        return _SEPARATOR + user.encode() + _SEPARATOR in self.crowd


class ReturningClient(NamedTuple):
    """A client that has come back: its session, its user, and the rooms in which it was."""

    session: str
    user: UserId | None
    #: Of the session, at least up to when its client was last here.
    history: RoomHistory


class MissedMessages(NamedTuple):
    """The messages for a client while it was away, and the rooms that it is in after them."""

    messages: list[tuple[Offset, Message]]
    rooms: set[str]
    #: Its joins and leaves that are held here, in order.
    changes: list[tuple[str, RoomChange]]


class Window:
    """The recent entries of the broadcast stream, listed under those whom they are for."""

    def __init__(self, *, max_age: float, max_bytes: int, max_rooms: int) -> None:
        """
        Args:
            max_age: seconds, by the clock that the offsets carry.
            max_bytes: of messages, with what it takes to keep them.
            max_rooms: that one client may be in: a join beyond that did not happen.
        """
        self._max_rooms = max_rooms
        self._max_age = round(max_age * 1000)
        self._max_bytes = max_bytes
        #: By number, in order.
        self._entries: dict[int, KeptEntry] = {}
        self._next = 0
        self._lists: dict[_Key, list[int]] = {}
        self.bytes = 0
        #: Everything after this offset is here.
        self.complete_since: Offset = (0, 0)

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self, offset: Offset) -> None:
        """Begin anew: nothing up to this offset is held."""
        self._entries.clear()
        self._lists.clear()
        self.bytes = 0
        self.complete_since = offset

    def append(self, offset: Offset, envelope: ChannelEnvelope, size: int) -> None:
        """Keep an entry if some client may miss it.

        Args:
            size: of the envelope on the wire, in bytes.
        """
        if not isinstance(envelope, Kept):
            return
        keys = _keys(envelope)
        if not keys:
            return
        crowd = b""
        if keys in ([_MANY], [_MANY_CHANGES]):
            assert isinstance(envelope, ToUsers | Membership)
            users = [b"", *(user.encode() for user in envelope.users), b""]
            crowd = _SEPARATOR.join(users)
            envelope = msgspec.structs.replace(envelope, users=[])
        size += ENTRY_OVERHEAD + USER_OVERHEAD * len(keys)
        entry = KeptEntry(offset, envelope, crowd, size)
        self._entries[self._next] = entry
        for key in keys:
            self._lists.setdefault(key, []).append(self._next)
        self._next += 1
        self.bytes += entry.size
        self._evict(offset[0] - self._max_age)

    def holds(self, offset: Offset) -> bool:
        """Tell whether everything after this offset is here."""
        return offset >= self.complete_since

    def missed(self, client: ReturningClient, offset: Offset) -> MissedMessages:
        """Find what a client was sent after this offset, in order.

        Args:
            offset: one that the window `holds`, and of which the client's history `tells`.
        """
        history = client.history
        # From here on its rooms follow from what is held.
        start = max(history.since, history.known_since, self.complete_since)
        rooms = history.rooms_at(start)
        held = self._changes(client, start)
        may_be_in = rooms.union(_change(each).room for each in held.values())
        numbers = self._addressed(client, may_be_in, offset).union(held)
        messages, changes = [], []
        for entry in (self._entries[number] for number in sorted(numbers)):
            envelope = entry.envelope
            if isinstance(envelope, Membership):
                if self._go(rooms, envelope):
                    changes.append((envelope.room, RoomChange(entry.offset, envelope.joins)))
            elif not isinstance(envelope, ToRoom) or (
                envelope.room in rooms and not _spares(envelope, client)
            ):
                messages.append((entry.offset, envelope.message))
        return MissedMessages(messages, rooms, changes)

    def rooms(self, client: ReturningClient) -> tuple[set[str], list[tuple[str, RoomChange]]]:
        """The rooms that a client is in now, and its changes that are held here; for one that
        cannot have what it missed."""
        rooms, changes = client.history.rooms, []
        for entry in self._changes(client, client.history.since).values():
            envelope = _change(entry)
            if self._go(rooms, envelope):
                changes.append((envelope.room, RoomChange(entry.offset, envelope.joins)))
        return rooms, changes

    def _go(self, rooms: set[str], change: Membership) -> bool:
        """Apply a join or a leave to `rooms`; False when it changes nothing."""
        if change.joins is (change.room in rooms):
            return False
        if not change.joins:
            rooms.discard(change.room)
        elif len(rooms) < self._max_rooms:
            rooms.add(change.room)
        else:
            return False
        return True

    def _addressed(
        self, client: ReturningClient, rooms: Collection[str], offset: Offset
    ) -> set[int]:
        """The messages after this offset that may be for this client."""
        found = set(self._since(("session", client.session), offset))
        if client.user is not None:
            found.update(self._since(("user", client.user), offset))
            found.update(
                number
                for number in self._since(_MANY, offset)
                if self._entries[number].is_for(client.user)
            )
        for room in rooms:
            found.update(self._since(("room", room), offset))
        return found

    def _changes(self, client: ReturningClient, offset: Offset) -> dict[int, KeptEntry]:
        """The client's joins and leaves after this offset, in order."""
        numbers = list(self._since(("changes of session", client.session), offset))
        if client.user is not None:
            numbers += self._since(("changes of user", client.user), offset)
            numbers += (
                number
                for number in self._since(_MANY_CHANGES, offset)
                if self._entries[number].is_for(client.user)
            )
        return {number: self._entries[number] for number in sorted(numbers)}

    def _since(self, key: _Key, offset: Offset) -> Iterator[int]:
        for number in reversed(self._lists.get(key, ())):
            if self._entries[number].offset <= offset:
                return
            yield number

    def _evict(self, oldest: int) -> None:
        """Drop what is too old, in milliseconds, or too much."""
        while self._entries:
            number = next(iter(self._entries))
            entry = self._entries[number]
            if entry.offset[0] >= oldest and self.bytes <= self._max_bytes:
                return
            del self._entries[number]
            self.bytes -= entry.size
            self.complete_since = entry.offset
            for key in _keys_of(entry):
                # The oldest entry stands first in each of its lists.
                numbers = self._lists[key]
                del numbers[0]
                if not numbers:
                    del self._lists[key]


def _keys(envelope: Kept) -> list[_Key]:
    """The lists that an entry stands in."""
    if isinstance(envelope, ToUsers) and len(envelope.users) == 1:
        # The usual case.
        return [("user", envelope.users[0])]
    if isinstance(envelope, ToRoom):
        return [("room", envelope.room)]
    changes = "changes of " if isinstance(envelope, Membership) else ""
    if isinstance(envelope, ToConnection | Membership) and envelope.session is not None:
        return [(f"{changes}session", envelope.session)]
    if isinstance(envelope, ToConnection):
        return []
    if len(envelope.users) > MANY_USERS:
        return [_MANY_CHANGES if changes else _MANY]
    return [(f"{changes}user", user) for user in envelope.users]


def _keys_of(entry: KeptEntry) -> list[_Key]:
    if not entry.crowd:
        return _keys(entry.envelope)
    return [_MANY_CHANGES if isinstance(entry.envelope, Membership) else _MANY]


def _change(entry: KeptEntry) -> Membership:
    assert isinstance(entry.envelope, Membership)
    return entry.envelope


def _spares(envelope: ToRoom, client: ReturningClient) -> bool:
    """Tell whether the sender of a message to a room has excluded this client."""
    if envelope.without_session is not None:
        return envelope.without_session == client.session
    return envelope.without_user is not None and envelope.without_user == client.user

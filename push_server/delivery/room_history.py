"""The rooms of a session at each offset of the broadcast stream. Pure.

A client that comes back gets the messages of the rooms in which it was at that time. A leave alone
does not show that the client was in a room: it must not get what was sent to the room before.
"""

import bisect
from collections.abc import Mapping
from typing import NamedTuple

from queue_run.channel.listener import Offset, parse_offset

#: Before every entry of a stream.
BEGINNING: Offset = (0, 0)


class RoomChange(NamedTuple):
    """A join or a leave."""

    offset: Offset
    joins: bool


class RoomHistory:
    """The joins and leaves of a session's rooms, as far as they are known."""

    def __init__(
        self,
        since: Offset = BEGINNING,
        *,
        known_since: Offset = BEGINNING,
        rooms: Mapping[str, list[RoomChange]] | None = None,
    ) -> None:
        """
        Args:
            since: where the session began: what changed before that was not for this session.
            known_since: rooms that were left before this offset may be forgotten.
            rooms: the changes of each room, in order.
        """
        self.since = since
        self.known_since = known_since
        self._rooms = dict(rooms or {})

    @property
    def is_empty(self) -> bool:
        """True when the session was never in a room, as far as is known."""
        return not self._rooms and self.known_since <= self.since

    @property
    def rooms(self) -> set[str]:
        """The rooms that the session is in after all its changes."""
        return {room for room, changes in self._rooms.items() if changes and changes[-1].joins}

    def tells(self, offset: Offset) -> bool:
        """Tell whether the rooms of the session at this offset are known."""
        return self.known_since <= max(offset, self.since)

    def rooms_at(self, offset: Offset) -> set[str]:
        """Find the rooms that the session was in at an offset, of which `tells` must be true."""
        found = set()
        for room, changes in self._rooms.items():
            before = bisect.bisect_right(changes, offset, key=_offset)
            if before and changes[before - 1].joins:
                found.add(room)
        return found

    def note(self, room: str, change: RoomChange) -> bool:
        """Add a change at its place in the order; False when it was known."""
        changes = self._rooms.setdefault(room, [])
        place = bisect.bisect_right(changes, change.offset, key=_offset)
        if place and changes[place - 1] == change:
            return False
        changes.insert(place, change)
        return True


def _offset(change: RoomChange) -> Offset:
    return change.offset


def parse_changes(text: str) -> list[RoomChange]:
    """Parse the changes of one room as Redis keeps them (`queue_run.channel.memberships`)."""
    return [RoomChange(parse_offset(each[1:]), each[0] == "+") for each in text.split()]

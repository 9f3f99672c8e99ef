"""In which rooms a session was at an offset of the broadcast stream. Pure.

A client that comes back gets the messages of the rooms in which it was then: who was made to leave
a room in which it never was must not get what was sent there before.
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
            since: where the session began: what changed before that was none of its business.
            known_since: rooms that were left before this offset may be forgotten.
            rooms: the changes of each room, in order.
        """
        self.since = since
        self.known_since = known_since
        self._rooms = dict(rooms or {})

    @property
    def is_empty(self) -> bool:
        """Whether the session was never in a room, as far as is known."""
        return not self._rooms and self.known_since <= self.since

    @property
    def rooms(self) -> set[str]:
        """Those that the session is in, after all of it."""
        return {room for room, changes in self._rooms.items() if changes and changes[-1].joins}

    def tells(self, offset: Offset) -> bool:
        """Whether it is known in which rooms the session was at this offset."""
        return self.known_since <= max(offset, self.since)

    def rooms_at(self, offset: Offset) -> set[str]:
        """Those that the session was in at an offset of which this tells."""
        found = set()
        for room, changes in self._rooms.items():
            before = bisect.bisect_right(changes, offset, key=_offset)
            if before and changes[before - 1].joins:
                found.add(room)
        return found

    def note(self, room: str, change: RoomChange) -> bool:
        """Add a change, at its place; False when it was known."""
        changes = self._rooms.setdefault(room, [])
        place = bisect.bisect_right(changes, change.offset, key=_offset)
        if place and changes[place - 1] == change:
            return False
        changes.insert(place, change)
        return True


def _offset(change: RoomChange) -> Offset:
    return change.offset


def parse_changes(text: str) -> list[RoomChange]:
    """What Redis keeps of a room (`queue_run.channel.memberships`)."""
    return [RoomChange(parse_offset(each[1:]), each[0] == "+") for each in text.split()]

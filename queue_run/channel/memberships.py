"""Joins and leaves of rooms, written with what Redis keeps of sessions in one step.

A push server tells Redis of the rooms of the sessions that it has. What changes while none has the
session, since its client is away, stands in the stream only, which does not reach back for ever: so
whoever writes a change there writes it into the session's record, too.
"""

from typing import NamedTuple

from queue_run.contracts.envelopes import Membership
from queue_run.contracts.keys import Keys
from queue_run.storage.links import Command
from queue_run.storage.script_files import Script, load

#: The field with the offset before which it is not known which rooms a session had left; as in
#: `storage/lua/include/rooms`.
KNOWN_SINCE = ""

_SESSION_CHANGE = load("channel/session_change")
_USERS_CHANGE = load("channel/users_change")
_ALSO_WHEN_FULL = load("channel/also_when_full")


class Noted(NamedTuple):
    """A note that is written in the same step as an entry of a stream."""

    script: Script
    #: Behind that of the stream.
    keys: tuple[str, ...]
    #: Before what appends to the stream.
    arguments: tuple[str | int, ...]

    def command(self, append: Command) -> Command:
        """The command that appends to a stream, and notes this."""
        keys = (append[1], *self.keys)
        return ("EVAL", *self.script.given(keys, (*self.arguments, *append)))


def also_when_full(max_entries: int) -> Noted:
    """Make a note that notes nothing, and lets the entry be written in a full Redis too.

    It is for entries that report an end, since each end makes room elsewhere.

    Args:
        max_entries: about how many entries the stream keeps.
    """
    return Noted(_ALSO_WHEN_FULL, (), (max_entries,))


def noted(
    change: Membership,
    keys: Keys,
    *,
    session_time: float,
    window_time: float,
    max_rooms: int,
) -> Noted | None:
    """The note of a change; None for a connection without a session, which cannot be resumed."""
    joins = "+" if change.joins else "-"
    # As long as a push server keeps it: a session that lives, and then what others still hold.
    lasts = round(1000 * (2 * session_time + window_time))
    if change.session is not None:
        session = change.session
        names = (keys.session(session), keys.session_rooms(session), keys.session_left(session))
        return Noted(_SESSION_CHANGE, names, (joins, change.room, max(1, lasts), max_rooms))
    if change.users:
        lefts = tuple(keys.left_room(user, change.room) for user in change.users)
        return Noted(_USERS_CHANGE, lefts, (joins, max(1, lasts)))
    return None

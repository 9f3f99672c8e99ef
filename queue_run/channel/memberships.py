"""Joins and leaves of rooms, written with what Redis keeps of sessions in one step.

A push server tells Redis of the rooms of the sessions that it has. What changes while none has the
session, since its client is away, stands in the stream only, which does not reach back for ever: so
whoever writes a change there writes it into the session's record, too.
"""

from typing import NamedTuple

from queue_run.channel.links import Command
from queue_run.envelopes import Membership
from queue_run.keys import Keys

#: Whether one offset is later than another, in Lua.
LATER = """
local function later(one, other)
  local a, b = string.match(one, '^(%d+)%-(%d+)$')
  local c, d = string.match(other, '^(%d+)%-(%d+)$')
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  return a > c or (a == c and b > d)
end
"""

# The stream first: where Redis is full, it is refused whole. KEYS: the stream; of a session, its
# key and that of its rooms. ARGV: whether it joins, the room, how long its rooms are kept, how many
# there may be; then what appends to the stream.
SESSION_CHANGE = """
local offset = redis.call(unpack(ARGV, 5))
if offset and redis.call('EXISTS', KEYS[2]) == 1 then
  if ARGV[1] == '1' then
    local rooms, known = redis.call('HLEN', KEYS[3]), redis.call('HEXISTS', KEYS[3], ARGV[2])
    if known == 1 or rooms < tonumber(ARGV[4]) then
      redis.call('HSET', KEYS[3], ARGV[2], offset)
    end
    redis.call('PEXPIRE', KEYS[3], ARGV[3])
  else
    redis.call('HDEL', KEYS[3], ARGV[2])
  end
end
return offset
"""
# KEYS: the stream, and for each user the leave of this room. ARGV: as above, without the room.
USERS_CHANGE = """
local offset = redis.call(unpack(ARGV, 3))
for i = 2, #KEYS do
  if ARGV[1] == '1' then
    redis.call('DEL', KEYS[i])
  elseif offset then
    redis.call('SET', KEYS[i], offset, 'PX', ARGV[2])
  end
end
return offset
"""

# A full Redis does what a script does after a first write that frees. KEYS: the stream. ARGV: about
# how many entries it keeps; then what appends to it.
ALSO_IN_A_FULL_REDIS = """
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[1])
return redis.call(unpack(ARGV, 2))
"""


class Noted(NamedTuple):
    """What is written in the same step as an entry of a stream."""

    script: str
    #: Behind that of the stream.
    keys: tuple[str, ...]
    #: Before what appends to the stream.
    arguments: tuple[str | int, ...]

    def command(self, append: Command) -> Command:
        """The command that appends to a stream, and notes this."""
        keys = (append[1], *self.keys)
        return ["EVAL", self.script, len(keys), *keys, *self.arguments, *append]


def also_when_full(max_entries: int) -> Noted:
    """Nothing is noted; the entry is written in a full Redis too.

    For what tells of an end, of which each makes room elsewhere.

    Args:
        max_entries: about how many entries the stream keeps.
    """
    return Noted(ALSO_IN_A_FULL_REDIS, (), (max_entries,))


def noted(
    change: Membership,
    keys: Keys,
    *,
    session_time: float,
    window_time: float,
    max_rooms: int,
) -> Noted | None:
    """What is noted of a change; None for a connection without a session, which nobody resumes."""
    joins = "1" if change.joins else "0"
    # As long as a push server keeps it: a session that lives, and then what others still hold.
    lasts = round(1000 * (2 * session_time + window_time))
    if change.session is not None:
        names = (keys.session(change.session), keys.session_rooms(change.session))
        return Noted(SESSION_CHANGE, names, (joins, change.room, max(1, lasts), max_rooms))
    if change.users:
        lefts = tuple(keys.left_room(user, change.room) for user in change.users)
        return Noted(USERS_CHANGE, lefts, (joins, max(1, lasts)))
    return None

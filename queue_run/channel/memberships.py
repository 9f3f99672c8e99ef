"""Joins and leaves of rooms, written with what Redis keeps of sessions in one step.

A push server tells Redis of the rooms of the sessions that it has. What changes while none has the
session, since its client is away, stands in the stream only, which does not reach back for ever: so
whoever writes a change there writes it into the session's record, too.
"""

from typing import NamedTuple

from queue_run.contracts.envelopes import Membership
from queue_run.contracts.keys import Keys
from queue_run.storage.links import Command

#: Changes of one room that are kept of a session, and rooms that it has left: at most. Of what was
#: before the ones that are dropped, only the offset is kept.
MOST_CHANGES, MOST_LEFT = 12, 64
#: The field with the offset before which it is not known which rooms a session had left. No room
#: has an empty name.
KNOWN_SINCE = ""

#: Notes a join or a leave in what is kept of a session, in Lua; in any order. `rooms` is the key of
#: the rooms that it is in, `left` of those that it has left. Each room has its changes, as
#: `+<offset>` for a join and `-<offset>` for a leave, in order: from them it can be told whether
#: the session was in the room at an offset of before. Of those alike that follow each other the
#: first and the last one are kept: the other kind may be noted later, between them or before.
NOTE = f"""
local function later(one, other)
  local a, b = string.match(one, '^(%d+)%-(%d+)$')
  local c, d = string.match(other, '^(%d+)%-(%d+)$')
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  return a > c or (a == c and b > d)
end
local function sign(change) return change and string.sub(change, 1, 1) end
local function known_since(left, offset)
  local held = redis.call('HGET', left, '{KNOWN_SINCE}')
  if not held or later(offset, held) then redis.call('HSET', left, '{KNOWN_SINCE}', offset) end
end
local function forget_left(left)
  local held = redis.call('HGETALL', left)
  for i = 1, #held, 2 do
    -- A room in which the session never was: this says as much as nothing.
    if sign(held[i + 1]) == '-' then redis.call('HDEL', left, held[i]) end
  end
  if redis.call('HLEN', left) <= {MOST_LEFT} / 2 then return end
  for _, changes in ipairs(redis.call('HVALS', left)) do
    known_since(left, string.match(changes, '(%d+%-%d+)$'))
  end
  local since = redis.call('HGET', left, '{KNOWN_SINCE}')
  redis.call('DEL', left)
  redis.call('HSET', left, '{KNOWN_SINCE}', since)
end
local function note(rooms, left, room, change, lasts)
  local was_in = redis.call('HGET', rooms, room)
  local held = was_in or redis.call('HGET', left, room) or ''
  local all, place = {{}}, 1
  for each in string.gmatch(held, '%S+') do
    all[#all + 1] = each
    if not later(string.sub(each, 2), string.sub(change, 2)) then place = #all + 1 end
  end
  if all[place - 1] ~= change then table.insert(all, place, change) end
  local kept = {{}}
  for number, each in ipairs(all) do
    local before, after = sign(kept[#kept]) or '-', sign(all[number + 1])
    if sign(each) ~= before or sign(each) ~= after then kept[#kept + 1] = each end
  end
  local forgotten = nil
  while #kept > {MOST_CHANGES} do
    -- Up to a leave: before the first one that is kept, the session was not in the room.
    repeat forgotten = table.remove(kept, 1) until sign(forgotten) == '-'
  end
  local text = table.concat(kept, ' ')
  if sign(kept[#kept]) == '+' then
    if text ~= was_in then
      redis.call('HSET', rooms, room, text)
      redis.call('HDEL', left, room)
    end
  elseif #kept > 0 then
    redis.call('HDEL', rooms, room)
    redis.call('HSET', left, room, text)
    if redis.call('HLEN', left) > {MOST_LEFT} then forget_left(left) end
  end
  if forgotten then known_since(left, string.sub(forgotten, 2)) end
  redis.call('PEXPIRE', rooms, lasts)
  redis.call('PEXPIRE', left, lasts)
end
"""

# The stream first: where Redis is full, it is refused whole. KEYS: the stream; of a session, its
# key, that of its rooms and that of those it has left. ARGV: `+` when it joins, `-` when it leaves,
# the room, how long its rooms are kept, how many there may be; then what appends to the stream.
SESSION_CHANGE = (
    NOTE
    + """
local offset = redis.call(unpack(ARGV, 5))
if offset and redis.call('EXISTS', KEYS[2]) == 1 then
  if ARGV[1] == '-' or redis.call('HLEN', KEYS[3]) < tonumber(ARGV[4])
     or redis.call('HEXISTS', KEYS[3], ARGV[2]) == 1 then
    note(KEYS[3], KEYS[4], ARGV[2], ARGV[1] .. offset, ARGV[3])
  end
end
return offset
"""
)
# KEYS: the stream, and for each user the leave of this room. ARGV: as above, without the room
# and how many.
USERS_CHANGE = """
local offset = redis.call(unpack(ARGV, 3))
for i = 2, #KEYS do
  if ARGV[1] == '+' then
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
    joins = "+" if change.joins else "-"
    # As long as a push server keeps it: a session that lives, and then what others still hold.
    lasts = round(1000 * (2 * session_time + window_time))
    if change.session is not None:
        session = change.session
        names = (keys.session(session), keys.session_rooms(session), keys.session_left(session))
        return Noted(SESSION_CHANGE, names, (joins, change.room, max(1, lasts), max_rooms))
    if change.users:
        lefts = tuple(keys.left_room(user, change.room) for user in change.users)
        return Noted(USERS_CHANGE, lefts, (joins, max(1, lasts)))
    return None

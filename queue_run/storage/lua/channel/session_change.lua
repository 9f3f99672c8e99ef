-- Appends a join or a leave to a stream, and notes it in what is kept of the session: `sign` is
-- `+` when it joins, `-` when it leaves. The stream first: a full Redis refuses the whole.
-- KEYS: stream session rooms left
-- ARGV: sign room lasts most append...
-- INCLUDE: rooms
-- RETURNS: the offset of the entry
local stream, session, rooms, left = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local sign, room, lasts, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local offset = redis.call(unpack(ARGV, 5))
if offset and redis.call('EXISTS', session) == 1 then
  if sign == '-' or redis.call('HLEN', rooms) < tonumber(most)
     or redis.call('HEXISTS', rooms, room) == 1 then
    note(rooms, left, room, sign .. offset, lasts)
  end
end
return offset

-- Notes rooms in which a session is, since that offset at the latest. What was before it is not
-- known where Redis has none of them.
-- KEYS: rooms left
-- ARGV: lasts offset names...
-- INCLUDE: rooms
local rooms, left = KEYS[1], KEYS[2]
local lasts, offset = ARGV[1], ARGV[2]

redis.call('PEXPIRE', rooms, lasts)
for number = 3, #ARGV do
  if redis.call('HEXISTS', rooms, ARGV[number]) == 0 then
    note(rooms, left, ARGV[number], '+' .. offset, lasts)
    known_since(left, offset)
  end
end
redis.call('PEXPIRE', rooms, lasts)
redis.call('PEXPIRE', left, lasts)

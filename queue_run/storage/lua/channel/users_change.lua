-- Appends a join or a leave of users to a stream, and notes for each user that it has left this
-- room, or not any more.
-- KEYS: stream lefts...
-- ARGV: sign lasts append...
-- RETURNS: the offset of the entry
local stream = KEYS[1]
local sign, lasts = ARGV[1], ARGV[2]

local offset = redis.call(unpack(ARGV, 3))
for i = 2, #KEYS do
  if sign == '+' then
    redis.call('DEL', KEYS[i])
  elseif offset then
    redis.call('SET', KEYS[i], offset, 'PX', lasts)
  end
end
return offset

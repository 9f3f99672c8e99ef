-- Forgets that a message was taken, and does what puts it back: commands, each after the number of
-- its words, whose keys are declared behind the first two. It frees first, since a full Redis
-- refuses a script whose first write makes anything grow; should a later write fail, the message is
-- written down again.
-- KEYS: unacked index touched...
-- ARGV: tag found commands...
-- RETURNS: 0 when it was settled meanwhile
local unacked, index = KEYS[1], KEYS[2]
local tag, found = ARGV[1], ARGV[2]

local held = redis.call('HGET', unacked, tag)
if held and held ~= found then return 0 end
local score = redis.call('ZSCORE', index, tag)
redis.call('HDEL', unacked, tag)
redis.call('ZREM', index, tag)
if not held then return 0 end
local at = 3
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  local answer = redis.pcall(unpack(ARGV, at + 1, at + words))
  if type(answer) == 'table' and answer.err then
    redis.call('HSET', unacked, tag, held)
    if score then redis.call('ZADD', index, score, tag) end
    return answer
  end
  at = at + words + 1
end
return 1

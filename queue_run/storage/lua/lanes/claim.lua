-- Claims lanes that somebody must look after.
-- KEYS: lanes
-- ARGV: lasts limit
-- INCLUDE: now
-- RETURNS: their names
local lanes = KEYS[1]
local lasts, limit = ARGV[1], ARGV[2]

local names = redis.call('ZRANGEBYSCORE', lanes, '-inf', now, 'LIMIT', 0, limit)
for _, name in ipairs(names) do
  redis.call('ZREM', lanes, name)
  redis.call('ZADD', lanes, now + lasts, name)
end
return names

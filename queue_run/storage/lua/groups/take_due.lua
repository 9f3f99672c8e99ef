-- Takes groups that somebody must look after.
-- KEYS: groups
-- ARGV: lasts limit
-- INCLUDE: now
-- RETURNS: their names
local groups = KEYS[1]
local lasts, limit = ARGV[1], ARGV[2]

local names = redis.call('ZRANGEBYSCORE', groups, '-inf', now, 'LIMIT', 0, limit)
for _, name in ipairs(names) do
  redis.call('ZREM', groups, name)
  redis.call('ZADD', groups, now + lasts, name)
end
return names

-- Renews the lease of a job, if this attempt holds it.
-- KEYS: job
-- ARGV: token lease
-- INCLUDE: now
-- RETURNS: whether the job was cancelled
local job = KEYS[1]
local token, lease = ARGV[1], ARGV[2]

local owner, cancelled = unpack(redis.call('HMGET', job, 'owner', 'cancelled'))
if owner == token then
  redis.call('HDEL', job, 'until')
  redis.call('HSET', job, 'until', now + lease)
end
return cancelled and 1 or 0

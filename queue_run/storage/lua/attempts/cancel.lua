-- Asks for the end of a job. One that waits for its retry comes at once, to be ended.
-- KEYS: job delayed groups
-- ARGV: id lasts leases
-- INCLUDE: now
-- BUILDS: <leases><group>
-- RETURNS: 0 when it has ended
local job, delayed, groups = KEYS[1], KEYS[2], KEYS[3]
local id, lasts, leases = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HEXISTS', job, 'ended') == 1 then return 0 end
redis.call('HDEL', job, 'cancelled')
redis.call('HSET', job, 'cancelled', 1)
if redis.call('PTTL', job) < tonumber(lasts) then
  redis.call('PEXPIRE', job, lasts)
end
redis.call('ZADD', delayed, 'XX', now, id)
local group = redis.call('HGET', job, 'lane')
if group and redis.call('GET', leases .. group) == 'postponed' then
  redis.call('DEL', leases .. group)
  redis.call('ZADD', groups, 'XX', now, group)
end
return 1

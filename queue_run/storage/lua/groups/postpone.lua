-- Gives a group back, to be gone on with after a while, or at once if its first job was cancelled.
-- Until then nobody's token holds the lease, so that no drain that comes early takes the group.
-- KEYS: lease groups job
-- ARGV: token after name uncount
-- INCLUDE: now
-- RETURNS: 0 when another drain holds the group
local lease, groups, job = KEYS[1], KEYS[2], KEYS[3]
local token, after, name, uncount = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if redis.call('GET', lease) ~= token then return 0 end
local known = redis.call('EXISTS', job) == 1
redis.call('HDEL', job, 'owner', 'until')
if known and uncount == '1' then redis.call('HINCRBY', job, 'n', -1) end
if redis.call('HEXISTS', job, 'cancelled') == 1 then
  redis.call('DEL', lease)
  redis.call('ZADD', groups, now, name)
  return 1
end
if known then redis.call('HSET', job, 'lane', name) end
redis.call('SET', lease, 'postponed', 'PX', after)
redis.call('ZADD', groups, now + after, name)
return 1

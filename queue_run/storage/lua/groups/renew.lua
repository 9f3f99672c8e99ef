-- Renews the lease of a group, and that of its first job, as far as this drain holds them.
-- KEYS: lease groups job
-- ARGV: token lasts name
-- INCLUDE: now
-- RETURNS: whether the job was cancelled
local lease, groups, job = KEYS[1], KEYS[2], KEYS[3]
local token, lasts, name = ARGV[1], ARGV[2], ARGV[3]

if redis.call('GET', lease) == token then
  redis.call('PEXPIRE', lease, lasts)
  redis.call('ZADD', groups, now + lasts, name)
  if redis.call('HGET', job, 'owner') == token then
    redis.call('HSET', job, 'until', now + lasts)
  end
end
return redis.call('HEXISTS', job, 'cancelled')

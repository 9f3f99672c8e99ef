-- Ends an attempt and lets its job come again after a while, or at once if it was cancelled. A
-- record that is gone, with all that Redis held, does not keep a job from its retry.
-- KEYS: job delayed delayed_jobs
-- ARGV: token after id stored living
-- INCLUDE: now
-- RETURNS: 0 when another attempt has taken it over, or it has ended
local job, delayed, delayed_jobs = KEYS[1], KEYS[2], KEYS[3]
local token, after, id, stored, living = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local owner, ended, cancelled = unpack(redis.call('HMGET', job, 'owner', 'ended', 'cancelled'))
if ended or owner and owner ~= token then return 0 end
local due = now
if not cancelled then
  due = now + after
  redis.call('PEXPIRE', job, living + after)
end
redis.call('HDEL', job, 'owner', 'until')
redis.call('ZADD', delayed, due, id)
redis.call('HSET', delayed_jobs, id, stored)
return 1

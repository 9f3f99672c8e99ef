-- Ends a job as failed, and keeps it as a dead letter.
-- KEYS: job letters index delayed delayed_jobs
-- ARGV: token id letter kept
-- INCLUDE: now
-- RETURNS: 0 when another attempt has taken it over, or it has ended otherwise
local job, letters, index, delayed, delayed_jobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, id, letter, kept = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local owner, ends, ended, by = unpack(redis.call('HMGET', job, 'owner', 'until', 'ended', 'by'))
if ended then return by == token and 1 or 0 end
if owner and owner ~= token and tonumber(ends or 0) > now then return 0 end
redis.call('HDEL', job, 'owner', 'until', 'cancelled')
redis.call('HSET', letters, id, letter)
redis.call('ZADD', index, now, id)
redis.call('HSET', job, 'ended', 'failed', 'by', token)
redis.call('PEXPIRE', job, kept)
redis.call('ZREM', delayed, id)
redis.call('HDEL', delayed_jobs, id)
return 1

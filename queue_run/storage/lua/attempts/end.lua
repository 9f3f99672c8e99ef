-- Says how a job ended. A copy of it that waits goes with it: that could come when nobody
-- remembers the end any more.
-- KEYS: job delayed delayed_jobs
-- ARGV: token outcome kept id
-- RETURNS: 0 when it had ended already, otherwise
local job, delayed, delayed_jobs = KEYS[1], KEYS[2], KEYS[3]
local token, outcome, kept, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if redis.call('HEXISTS', job, 'ended') == 1 then
  return redis.call('HGET', job, 'by') == token and 1 or 0
end
redis.call('HDEL', job, 'owner', 'until', 'cancelled')
redis.call('HSET', job, 'ended', outcome, 'by', token)
redis.call('PEXPIRE', job, kept)
redis.call('ZREM', delayed, id)
redis.call('HDEL', delayed_jobs, id)
return 1

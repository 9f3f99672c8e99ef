-- Takes jobs that are due, for a while. That ends between two milliseconds, where nothing that is
-- delayed ever is: so `done` can tell it from a retry that is due at the same time.
-- KEYS: delayed delayed_jobs
-- ARGV: lasts limit
-- INCLUDE: now
-- RETURNS: each job's stored and its new score, one after the other
local delayed, delayed_jobs = KEYS[1], KEYS[2]
local lasts, limit = ARGV[1], ARGV[2]

local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, limit)) do
  local stored = redis.call('HGET', delayed_jobs, id)
  redis.call('ZREM', delayed, id)
  if stored then
    redis.call('ZADD', delayed, now + lasts + 0.5, id)
    taken[#taken + 1] = stored
    taken[#taken + 1] = redis.call('ZSCORE', delayed, id)
  end
end
return taken

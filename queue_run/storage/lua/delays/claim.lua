-- Claims jobs that are due. A claim ends between two milliseconds, where nothing that is delayed
-- ever is: so `done` can tell its claim from a retry that is due at the same time.
-- KEYS: delayed delayed_jobs
-- ARGV: lasts limit
-- INCLUDE: now
-- RETURNS: each job's envelope and the score of its claim, one after the other
local delayed, delayed_jobs = KEYS[1], KEYS[2]
local lasts, limit = ARGV[1], ARGV[2]

local claimed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, limit)) do
  local envelope = redis.call('HGET', delayed_jobs, id)
  redis.call('ZREM', delayed, id)
  if envelope then
    redis.call('ZADD', delayed, now + lasts + 0.5, id)
    claimed[#claimed + 1] = envelope
    claimed[#claimed + 1] = redis.call('ZSCORE', delayed, id)
  end
end
return claimed

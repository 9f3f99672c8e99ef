-- Removes a job that is with the broker, unless it was delayed anew since it was taken.
-- KEYS: delayed delayed_jobs
-- ARGV: id score
local delayed, delayed_jobs = KEYS[1], KEYS[2]
local id, score = ARGV[1], ARGV[2]

if redis.call('ZSCORE', delayed, id) == score then
  redis.call('ZREM', delayed, id)
  redis.call('HDEL', delayed_jobs, id)
end
return 1

-- Lets a job come after a while.
-- KEYS: delayed delayed_jobs
-- ARGV: id stored after
-- INCLUDE: now
local delayed, delayed_jobs = KEYS[1], KEYS[2]
local id, stored, after = ARGV[1], ARGV[2], ARGV[3]

redis.call('HDEL', delayed_jobs, id)
redis.call('ZADD', delayed, now + after, id)
redis.call('HSET', delayed_jobs, id, stored)
return 1

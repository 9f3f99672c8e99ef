-- Lets a job run again, with all its attempts: it goes to the broker as one whose time has come.
-- KEYS: job letters index delayed delayed_jobs
-- ARGV: id stored token living
-- INCLUDE: now take_back
-- RETURNS: 0 when the letter is gone
local job, letters, index, delayed, delayed_jobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, stored, token, living = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local answer = take_back(job, letters, index, id, token, living)
if answer then return answer end
redis.call('ZADD', delayed, now, id)
redis.call('HSET', delayed_jobs, id, stored)
return 1

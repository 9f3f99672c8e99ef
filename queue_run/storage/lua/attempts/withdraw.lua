-- Ends a job whose push has failed, should the broker get it all the same.
-- KEYS: job
-- ARGV: lasts
-- RETURNS: 0 when it has begun already, or has ended otherwise
local job = KEYS[1]
local lasts = ARGV[1]

local ended, begun = unpack(redis.call('HMGET', job, 'ended', 'n'))
if ended then return ended == 'withdrawn' and 1 or 0 end
if begun then return 0 end
redis.call('PEXPIRE', job, lasts)
redis.call('HSET', job, 'ended', 'withdrawn')
redis.call('PEXPIRE', job, lasts)
return 1

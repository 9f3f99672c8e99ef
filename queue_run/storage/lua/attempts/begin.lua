-- Counts an attempt of a job and takes the job's lease, if it may run.
-- KEYS: job
-- ARGV: token lease most living
-- INCLUDE: now
-- RETURNS: the verdict, attempts that were begun, milliseconds after which to come again
local job = KEYS[1]
local token, lease, most, living = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local begun, owner, ends, ended, cancelled =
  unpack(redis.call('HMGET', job, 'n', 'owner', 'until', 'ended', 'cancelled'))
local n = tonumber(begun or 0)
if ended then return {ended == 'withdrawn' and ended or 'ended', n, 0} end
if owner == token then return {'run', n, 0} end
local left = tonumber(ends or 0) - now
if owner and left > 0 then return {'busy', n, left} end
if cancelled then return {'cancelled', n, 0} end
if n >= tonumber(most) then return {'exhausted', n, 0} end
redis.call('PEXPIRE', job, living)
redis.call('HSET', job, 'n', n + 1, 'owner', token, 'until', now + lease)
redis.call('PEXPIRE', job, living)
return {'run', n + 1, 0}

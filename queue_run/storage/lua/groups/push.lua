-- Puts a job at the end of its group, unless it is there already. An entry is
-- `<sequence> <job id> <stored>`. The last argument says until when it may be done.
-- KEYS: group groups dedupe sequence
-- ARGV: id stored window name drain_within last
-- INCLUDE: now
-- RETURNS: the job that waits, and whether a drain must be sent; false when it came too late
local group, groups, dedupe, sequence = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, stored, window = ARGV[1], ARGV[2], ARGV[3]
local name, drain_within, last = ARGV[4], ARGV[5], ARGV[6]

local first = redis.call('GET', dedupe)
if first == id then return {first, 1} end
if now > tonumber(last) then return false end
if first then return {first, 0} end
redis.call('SET', dedupe, id, 'PX', window)
local number = redis.call('INCR', sequence)
redis.call('RPUSH', group, number .. ' ' .. id .. ' ' .. stored)
return {id, redis.call('ZADD', groups, 'NX', now + drain_within, name)}

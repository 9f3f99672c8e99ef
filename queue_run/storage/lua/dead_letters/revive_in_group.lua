-- Lets a job of a FIFO group run again, at the end of its group, whose drain is due at once unless
-- the group is being drained.
-- KEYS: job letters index group groups sequence
-- ARGV: id stored token living name
-- INCLUDE: now take_back
-- RETURNS: 0 when the letter is gone
local job, letters, index = KEYS[1], KEYS[2], KEYS[3]
local group, groups, sequence = KEYS[4], KEYS[5], KEYS[6]
local id, stored, token, living, name = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local answer = take_back(job, letters, index, id, token, living)
if answer then return answer end
local number = redis.call('INCR', sequence)
redis.call('RPUSH', group, number .. ' ' .. id .. ' ' .. stored)
redis.call('ZADD', groups, 'NX', now, name)
return 1

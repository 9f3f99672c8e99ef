-- Leaves how wrong the clock of a process' machine is. A full Redis runs it, since its first write
-- frees.
-- KEYS: clocks
-- ARGV: process told lasts
local clocks = KEYS[1]
local process, told, lasts = ARGV[1], ARGV[2], ARGV[3]

redis.call('HDEL', clocks, process)
redis.call('HSET', clocks, process, told)
redis.call('PEXPIRE', clocks, lasts)

-- Puts a message on a list and rings the bell beside it, unless it came too late. What grows comes
-- first, so that a Redis that is full refuses the whole: unless it is to take it all the same.
-- KEYS: queue bell
-- ARGV: message last bell_size bell_expiry also_when_full
-- RETURNS: 0 when it came too late
local queue, bell = KEYS[1], KEYS[2]
local message, last, bell_size, bell_expiry, also_when_full =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local clock = redis.call('TIME')
local latest = tonumber(last)
if latest > 0 and clock[1] * 1000 + clock[2] / 1000 > latest then return 0 end
if also_when_full == '1' then redis.call('LTRIM', bell, 0, bell_size - 1) end
redis.call('LPUSH', queue, message)
redis.call('LPUSH', bell, 1)
redis.call('LTRIM', bell, 0, bell_size - 1)
redis.call('PEXPIRE', bell, bell_expiry)
return 1

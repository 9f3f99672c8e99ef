-- Takes the lease by which one process of all workers runs `on_online` and `on_offline`, if nobody
-- has it. A full Redis runs it: its first write frees.
-- KEYS: lease
-- ARGV: token lasts
-- RETURNS: whether it was taken
local lease = KEYS[1]
local token, lasts = ARGV[1], ARGV[2]

if redis.call('EXISTS', lease) == 1 then return 0 end
redis.call('DEL', lease)
redis.call('SET', lease, token, 'PX', lasts)
return 1

-- Leaves an answer of Celery's remote control, for a while: whoever has asked may be gone. A full
-- Redis takes it: whoever looks after workers asks them whether they live.
-- KEYS: queue
-- ARGV: message lasts
local queue = KEYS[1]
local message, lasts = ARGV[1], ARGV[2]

redis.call('PEXPIRE', queue, lasts)
redis.call('LPUSH', queue, message)
redis.call('PEXPIRE', queue, lasts)

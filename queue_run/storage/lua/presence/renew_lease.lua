-- Renews that lease, if it is still held.
-- KEYS: lease
-- ARGV: token lasts
-- RETURNS: whether it was renewed
local lease = KEYS[1]
local token, lasts = ARGV[1], ARGV[2]

return redis.call('GET', lease) == token and redis.call('PEXPIRE', lease, lasts)

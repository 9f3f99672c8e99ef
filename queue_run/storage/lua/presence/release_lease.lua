-- Gives that lease back, if it is still held.
-- KEYS: lease
-- ARGV: token
-- RETURNS: whether it was held
local lease = KEYS[1]
local token = ARGV[1]

return redis.call('GET', lease) == token and redis.call('DEL', lease)

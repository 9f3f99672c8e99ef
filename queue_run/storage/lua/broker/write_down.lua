-- Writes a message down as unacknowledged. A full Redis runs it, since its first write frees.
-- KEYS: unacked index
-- ARGV: tag message taken_at
local unacked, index = KEYS[1], KEYS[2]
local tag, message, taken_at = ARGV[1], ARGV[2], ARGV[3]

redis.call('HDEL', unacked, tag)
redis.call('HSET', unacked, tag, message)
redis.call('ZADD', index, taken_at, tag)

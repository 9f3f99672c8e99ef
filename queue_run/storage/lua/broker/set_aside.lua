-- Settles a message that cannot be read, and keeps it in the list of these. What frees memory comes
-- first: where there is none left, the first change decides.
-- KEYS: index unacked unreadable
-- ARGV: tag entry last
local index, unacked, unreadable = KEYS[1], KEYS[2], KEYS[3]
local tag, entry, last = ARGV[1], ARGV[2], ARGV[3]

redis.call('ZREM', index, tag)
redis.call('HDEL', unacked, tag)
redis.call('LPUSH', unreadable, entry)
redis.call('LTRIM', unreadable, 0, last)
return 1

-- Keeps what cannot be read, where nothing else is to be changed with it. A full Redis runs it,
-- since its first write frees.
-- KEYS: unreadable
-- ARGV: entry last
local unreadable = KEYS[1]
local entry, last = ARGV[1], ARGV[2]

redis.call('LTRIM', unreadable, 0, last - 1)
redis.call('LPUSH', unreadable, entry)

-- Binds a queue that expires, as kombu's REFRESH_BINDING does, but a full Redis runs it: its first
-- write only takes away the expiry of a table, which has none.
-- KEYS: bindings deadlines
-- ARGV: member exchange lasts
-- INCLUDE: now
local bindings, deadlines = KEYS[1], KEYS[2]
local member, exchange, lasts = ARGV[1], ARGV[2], ARGV[3]

redis.call('PERSIST', bindings)
redis.call('SADD', bindings, member)
redis.call('ZADD', deadlines, 'GT', now + tonumber(lasts), exchange)

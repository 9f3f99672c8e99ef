-- Creates the stream of a push server with its first entry. A full Redis runs it, since its first
-- write only expires: so that a server can be started there.
-- KEYS: stream
-- ARGV: entry lasts
local stream = KEYS[1]
local entry, lasts = ARGV[1], ARGV[2]

redis.call('PEXPIRE', stream, lasts)
redis.call('XADD', stream, '*', 'e', entry)
redis.call('PEXPIRE', stream, lasts)

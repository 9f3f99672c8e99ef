-- Appends to a stream in a full Redis, too: that does what a script does after a first write that
-- frees. It keeps about so many entries.
-- KEYS: stream
-- ARGV: max_entries append...
-- RETURNS: the offset of the entry
local stream = KEYS[1]
local max_entries = ARGV[1]

redis.call('XTRIM', stream, 'MAXLEN', '~', max_entries)
return redis.call(unpack(ARGV, 2))

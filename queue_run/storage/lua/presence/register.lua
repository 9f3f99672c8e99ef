-- Makes a push server known. The epoch is for where there is none.
-- KEYS: servers online leaving events epoch sweeps
-- ARGV: server users_of is_watched delay expires_after at_once new_epoch
-- INCLUDE: presence
-- RETURNS: its last sign of life, if any, zero while its users are being taken offline; the epoch
local new_epoch = ARGV[7]

local score = redis.call('ZSCORE', servers, server)
note_server(now, server)
redis.call('SET', epoch, new_epoch, 'NX')
return {score, redis.call('GET', epoch)}

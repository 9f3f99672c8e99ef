-- Takes the users of a server that ends offline.
-- KEYS: servers online leaving events epoch sweeps
-- ARGV: server users_of is_watched delay expires_after at_once
-- INCLUDE: presence
-- RETURNS: DONE or MORE
if not redis.call('ZSCORE', servers, server) then return DONE end
return take_down(server)

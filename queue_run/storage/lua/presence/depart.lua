-- Notes that users have no connection on a server any more.
-- KEYS: servers online leaving events epoch sweeps
-- ARGV: server users_of is_watched delay expires_after at_once users...
-- INCLUDE: presence
-- RETURNS: DONE or UNKNOWN
if not is_known() then return UNKNOWN end
for number = 7, #ARGV do
  if redis.call('SREM', users_of .. server, ARGV[number]) == 1 then depart(ARGV[number]) end
end
return DONE

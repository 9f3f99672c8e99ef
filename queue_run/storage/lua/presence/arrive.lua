-- Notes that users have connections on a server now. The application is told of those who were not
-- online, unless it is to be silent of them.
-- KEYS: servers online leaving events epoch sweeps
-- ARGV: server users_of is_watched delay expires_after at_once is_silent users...
-- INCLUDE: presence
-- RETURNS: DONE or UNKNOWN
local is_silent = ARGV[7]

if not is_known() then return UNKNOWN end
for number = 8, #ARGV do
  local user = ARGV[number]
  if redis.call('SADD', users_of .. server, user) == 1
      and redis.call('HINCRBY', online, user, 1) == 1
      and redis.call('ZREM', leaving, user) == 0
      and watched and is_silent ~= '1' then
    report(user, 1)
  end
end
return DONE

-- Says that sessions live, for how long from now on, and since when each does. All in one command:
-- redis-py takes longer for one than Redis does for all of them.
-- KEYS: sessions...
-- ARGV: lasts since...
local lasts = ARGV[1]

for number, session in ipairs(KEYS) do
  redis.call('PEXPIRE', session, lasts)
  redis.call('SET', session, ARGV[number + 1], 'PX', lasts)
end

-- Tells what is kept of a session. `lefts` is what keys of leaves of its user begin with; empty
-- without a user.
-- KEYS: session rooms left
-- ARGV: lefts
-- BUILDS: <lefts><room>
-- RETURNS: since when it lives; its rooms, with all their changes; those that it has left; and for
-- each of its rooms when its user has left it
local session, rooms, left = KEYS[1], KEYS[2], KEYS[3]
local lefts = ARGV[1]

local changes, left_at = redis.call('HGETALL', rooms), {}
for i = 1, #changes, 2 do
  left_at[#left_at + 1] = lefts ~= '' and redis.call('GET', lefts .. changes[i]) or ''
end
return {redis.call('GET', session), changes, redis.call('HGETALL', left), left_at}

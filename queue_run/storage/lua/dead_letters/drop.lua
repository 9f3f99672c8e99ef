-- Forgets a dead letter.
-- KEYS: job letters index
-- ARGV: id token lasts
-- RETURNS: 0 when there is no such letter
local job, letters, index = KEYS[1], KEYS[2], KEYS[3]
local id, token, lasts = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HDEL', letters, id) == 0 then
  return redis.call('HGET', job, 'dropped') == token and 1 or 0
end
redis.call('ZREM', index, id)
redis.call('HSET', job, 'dropped', token)
if redis.call('PTTL', job) < 0 then redis.call('PEXPIRE', job, lasts) end
return 1

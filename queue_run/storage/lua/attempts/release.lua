-- Ends the lease of a process that has died, by what its tokens begin with.
-- KEYS: job
-- ARGV: prefix
local job = KEYS[1]
local prefix = ARGV[1]

local owner = redis.call('HGET', job, 'owner')
if owner and string.sub(owner, 1, #prefix) == prefix then
  redis.call('HDEL', job, 'owner', 'until')
end
return 1

-- Takes the lease of a group or renews it, removes the job that is done, and begins the next. The
-- record of a job goes with the job: nobody hands it out again.
-- KEYS: group lease groups
-- ARGV: token lasts name jobs most living drain_within done stop
-- INCLUDE: now
-- BUILDS: <jobs><id>
-- RETURNS: the step, attempts that were begun, the entry of the first job
local group, lease, groups = KEYS[1], KEYS[2], KEYS[3]
local token, lasts, name, jobs, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local living, drain_within, done, stop = ARGV[6], ARGV[7], ARGV[8], ARGV[9]

local holder = redis.call('GET', lease)
if holder and holder ~= token then return {'refused', 0, ''} end

local waiting = redis.call('LRANGE', group, 0, 1)
local entry, id, job
local function look(at)
  entry = at
  id = entry and (string.match(entry, '^%d+ (%S+) ') or '?')
  job = entry and jobs .. id
end
local function remove()
  redis.call('LPOP', group)
  redis.call('DEL', job)
end

look(waiting[1])
if entry and id == done then
  remove()
  look(waiting[2])
end
local begun, owner, cancelled, ended
while entry do
  begun, owner, cancelled, ended =
    unpack(redis.call('HMGET', job, 'n', 'owner', 'cancelled', 'ended'))
  if not ended then break end
  remove()
  look(redis.call('LINDEX', group, 0))
end
if not entry then
  redis.call('DEL', lease)
  redis.call('ZREM', groups, name)
  return {'empty', 0, ''}
end
if stop == '1' then
  redis.call('DEL', lease)
  redis.call('ZADD', groups, now + drain_within, name)
  return {'later', 0, ''}
end
-- In a full Redis the first write decides: this one only expires.
redis.call('PEXPIRE', job, living)
if not holder or redis.call('PTTL', lease) < lasts / 2 then
  redis.call('SET', lease, token, 'PX', lasts)
  redis.call('ZADD', groups, now + lasts, name)
end
local n = tonumber(begun or 0)
if owner == token then return {'run', n, entry} end
if cancelled then return {'cancelled', n, entry} end
if n >= tonumber(most) then return {'exhausted', n, entry} end
redis.call('HSET', job, 'n', n + 1, 'owner', token, 'until', now + lasts)
redis.call('PEXPIRE', job, living)
return {'run', n + 1, entry}

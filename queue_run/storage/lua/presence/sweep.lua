-- Notes that a server lives; tells of users who have been away for long enough, and takes those of
-- silent servers offline.
-- KEYS: servers online leaving events epoch sweeps
-- ARGV: server users_of is_watched delay expires_after at_once
-- INCLUDE: presence
-- RETURNS: DONE, MORE or UNKNOWN
if not is_known() then return UNKNOWN end
note_server(now, server)

-- While Redis was away or stood still, nobody could leave a heartbeat: silence counts only from
-- when sweeps have come regularly again.
local last = tonumber(redis.call('HGET', sweeps, 'last') or 0)
local since = tonumber(redis.call('HGET', sweeps, 'since') or 0)
if now - last > expiry / 2 or since > now then since = now end
redis.call('HSET', sweeps, 'last', now, 'since', since)

local gone = redis.call('ZRANGEBYSCORE', leaving, '-inf', now, 'LIMIT', 0, limit)
for _, user in ipairs(gone) do
  redis.call('ZREM', leaving, user)
  if watched then report(user, 0) end
end
local answer = #gone == limit and MORE or DONE

local silent_since = now - since >= expiry and now - expiry or 0
local lost = redis.call('ZRANGEBYSCORE', servers, '-inf', silent_since, 'LIMIT', 0, 2)
if #lost > 0 then
  answer = math.max(answer, take_down(lost[1]), #lost > 1 and MORE or DONE)
end
return answer

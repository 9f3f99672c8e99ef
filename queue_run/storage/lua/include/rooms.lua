-- Notes a join or a leave in what is kept of a session, in any order. `rooms` is the key of the
-- rooms that it is in, `left` of those that it has left. Each room has its changes, as `+<offset>`
-- for a join and `-<offset>` for a leave, in order: from them it can be told whether the session
-- was in the room at an offset of before. Of those alike that follow each other the first and the
-- last one are kept: the other kind may be noted later, between them or before.

-- Changes of one room that are kept of a session, and rooms that it has left: at most. Of what was
-- before the ones that are dropped, only the offset is kept.
local MOST_CHANGES, MOST_LEFT = 12, 64
-- The field with the offset before which it is not known which rooms a session had left. No room
-- has an empty name.
local KNOWN_SINCE = ''

local function later(one, other)
  local a, b = string.match(one, '^(%d+)%-(%d+)$')
  local c, d = string.match(other, '^(%d+)%-(%d+)$')
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  return a > c or (a == c and b > d)
end

local function sign_of(change)
  return change and string.sub(change, 1, 1)
end

local function known_since(left, offset)
  local held = redis.call('HGET', left, KNOWN_SINCE)
  if not held or later(offset, held) then redis.call('HSET', left, KNOWN_SINCE, offset) end
end

local function forget_left(left)
  local held = redis.call('HGETALL', left)
  for i = 1, #held, 2 do
    -- A room in which the session never was: this says as much as nothing.
    if sign_of(held[i + 1]) == '-' then redis.call('HDEL', left, held[i]) end
  end
  if redis.call('HLEN', left) <= MOST_LEFT / 2 then return end
  for _, changes in ipairs(redis.call('HVALS', left)) do
    known_since(left, string.match(changes, '(%d+%-%d+)$'))
  end
  local since = redis.call('HGET', left, KNOWN_SINCE)
  redis.call('DEL', left)
  redis.call('HSET', left, KNOWN_SINCE, since)
end

local function note(rooms, left, room, change, lasts)
  local was_in = redis.call('HGET', rooms, room)
  local held = was_in or redis.call('HGET', left, room) or ''
  local all, place = {}, 1
  for each in string.gmatch(held, '%S+') do
    all[#all + 1] = each
    if not later(string.sub(each, 2), string.sub(change, 2)) then place = #all + 1 end
  end
  if all[place - 1] ~= change then table.insert(all, place, change) end
  local kept = {}
  for number, each in ipairs(all) do
    local before, after = sign_of(kept[#kept]) or '-', sign_of(all[number + 1])
    if sign_of(each) ~= before or sign_of(each) ~= after then kept[#kept + 1] = each end
  end
  local forgotten = nil
  while #kept > MOST_CHANGES do
    -- Up to a leave: before the first one that is kept, the session was not in the room.
    repeat forgotten = table.remove(kept, 1) until sign_of(forgotten) == '-'
  end
  local text = table.concat(kept, ' ')
  if sign_of(kept[#kept]) == '+' then
    if text ~= was_in then
      redis.call('HSET', rooms, room, text)
      redis.call('HDEL', left, room)
    end
  elseif #kept > 0 then
    redis.call('HDEL', rooms, room)
    redis.call('HSET', left, room, text)
    if redis.call('HLEN', left) > MOST_LEFT then forget_left(left) end
  end
  if forgotten then known_since(left, string.sub(forgotten, 2)) end
  redis.call('PEXPIRE', rooms, lasts)
  redis.call('PEXPIRE', left, lasts)
end

-- Takes the oldest message of the first list that has one, and writes it down as unacknowledged:
-- the JSON text of the message, its exchange and its routing key. Redis' clock dates it, in the
-- seconds of kombu: by those of workers, which differ, others would hand out again what still runs
-- (`QoS.restore_visible`). What cannot be read is taken all the same, to be set aside. What cannot
-- be written down stays where it is.
-- KEYS: unacked index lists... notes
-- ARGV: acknowledged... number kept
-- INCLUDE: notes
-- RETURNS: the list, the message, and the tag under which it is written down; or false
local unacked, index = KEYS[1], KEYS[2]

local clock = redis.call('TIME')
local now = clock[1] .. '.' .. string.format('%06d', clock[2])
local function place_of(message)
  local properties = cjson.decode(message).properties
  local info, tag = properties.delivery_info, properties.delivery_tag
  assert(type(tag) == 'string' and tag ~= '')
  assert(type(info.exchange) == 'string' and type(info.routing_key) == 'string')
  local place = cjson.encode(info.exchange) .. ', ' .. cjson.encode(info.routing_key)
  return {tag, '[' .. message .. ', ' .. place .. ']'}
end
if spent() then return false end
for i = 3, #KEYS - 1 do
  local message = redis.call('LINDEX', KEYS[i], -1)
  if message then
    local readable, found = pcall(place_of, message)
    local tag = ''
    if readable and ARGV[i - 2] == '1' then
      tag = found[1]
      -- In a full Redis the first write decides: this one frees.
      redis.call('HDEL', unacked, tag)
      redis.call('HSET', unacked, tag, found[2])
      redis.call('ZADD', index, now, tag)
      gave(tag)
    end
    redis.call('RPOP', KEYS[i])
    return {KEYS[i], message, tag}
  end
end
return false

-- Tells where a stream ends.
-- KEYS: stream
-- ARGV: none
-- RETURNS: its last entry's offset, and the last that it has ever given out
local stream = KEYS[1]

if redis.call('EXISTS', stream) == 0 then
  return {'0-0', '0-0'}
end
local facts = redis.call('XINFO', 'STREAM', stream)
local last, generated = '0-0', '0-0'
for i = 1, #facts, 2 do
  if facts[i] == 'last-generated-id' then
    generated = facts[i + 1]
  elseif facts[i] == 'last-entry' and facts[i + 1] then
    last = facts[i + 1][1]
  end
end
return {last, generated}

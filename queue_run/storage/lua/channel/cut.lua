-- Cuts off the oldest entries of a stream, but never the last one, until it takes no more bytes of
-- memory than it may. In several steps, since an entry takes up to a quarter more memory than it
-- has bytes, and none is to go that need not. Redis measures whole blocks of entries, which takes
-- it some milliseconds for a hundred thousand entries.
-- KEYS: stream
-- ARGV: max_bytes
-- RETURNS: how many entries it cut off
local stream = KEYS[1]
local max_bytes = ARGV[1]

local most = tonumber(max_bytes)
local function excess()
  return (redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', 0) or 0) - most
end
-- To read an entry is to copy it: of large ones, not many more than are cut.
local large = most / math.max(1, redis.call('XLEN', stream)) > 50000
local function first_after(bytes)
  local first, from = false, '-'
  while bytes > 0 do
    local page = redis.call('XRANGE', stream, from, '+', 'COUNT', large and 2 or 16)
    if #page < 2 then break end
    for number = 1, #page - 1 do
      for _, value in ipairs(page[number][2]) do bytes = bytes - #value end
      first = page[number + 1][1]
      if bytes <= 0 then break end
    end
    from = first
  end
  return first
end
local cut = 0
for _ = 1, 50 do
  local bytes = excess()
  local first = bytes > 0 and first_after(0.8 * bytes)
  if not first then break end
  cut = cut + redis.call('XTRIM', stream, 'MINID', first)
end
return cut

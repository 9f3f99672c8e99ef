-- What a script that takes messages does with the note of its taker: `spent()` before it takes,
-- `gave(tag)` when it has.
-- KEYS: ... notes
-- ARGV: ... number kept
local notes = KEYS[#KEYS]
local number, kept = tonumber(ARGV[#ARGV - 1]), ARGV[#ARGV]

local function spent()
  local last = redis.call('GET', notes)
  return last and tonumber(string.match(last, '^%d+')) >= number
end

local function gave(tag)
  redis.call('SET', notes, number .. ' ' .. tag, 'PX', kept)
end

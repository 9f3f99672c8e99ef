-- Claims the requests of some turns, each up to its first request that somebody else has taken.
-- Sessions that live, of which Redis may not know yet, are written down first. The keys are those
-- of so many sessions, and the claims of all requests; the arguments, since when each session
-- lives, and for each turn how many requests it has, and their ids.
-- KEYS: claims...
-- ARGV: lasts lives sessions turns...
-- INCLUDE: now
-- RETURNS: for each turn how many were claimed, and who has the next one
local lasts, lives, sessions = ARGV[1], ARGV[2], ARGV[3]

local key = tonumber(sessions)
local answers, argument = {}, 3 + key
for i = 1, key do
  redis.call('SET', KEYS[i], ARGV[3 + i], 'PX', lives)
end
while key < #KEYS do
  local count = tonumber(ARGV[argument + 1])
  local taken, holder = 0, ''
  for i = 1, count do
    local id = ARGV[argument + 1 + i]
    local held = redis.call('GET', KEYS[key + i])
    if not held then
      redis.call('SET', KEYS[key + i], now .. ' ' .. id, 'PX', lasts)
    elseif string.match(held, ' (.*)') ~= id then
      holder = held
      break
    end
    taken = taken + 1
  end
  answers[#answers + 1] = taken
  answers[#answers + 1] = holder
  key = key + count
  argument = argument + 1 + count
end
return answers

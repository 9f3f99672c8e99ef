-- What the scripts of presence have in common. All are given these keys and these arguments first:
-- the server that asks, what the keys of servers' users begin with, whether the application is told
-- of who comes and goes, two times in milliseconds, and how many users one script is about.
-- KEYS: servers online leaving events epoch sweeps
-- ARGV: server users_of is_watched delay expires_after at_once
-- INCLUDE: now
-- BUILDS: <users_of><server>
local servers, online, leaving = KEYS[1], KEYS[2], KEYS[3]
local events, epoch, sweeps = KEYS[4], KEYS[5], KEYS[6]
local server, users_of, is_watched = ARGV[1], ARGV[2], ARGV[3]
local delay, expires_after, at_once = ARGV[4], ARGV[5], ARGV[6]

local watched = is_watched == '1'
local expiry, limit = tonumber(expires_after), tonumber(at_once)
-- Users who came and went whom no worker has looked at, about; beyond it the oldest are forgotten.
local MAX_EVENTS = 100000
-- The answers: there is nothing more to do; there may be more; the server is not known.
local DONE, MORE, UNKNOWN = 0, 1, -1

-- A score of zero is that of a server whose users are being taken offline.
local function is_known()
  return tonumber(redis.call('ZSCORE', servers, server) or 0) > 0
end

-- In a full Redis the first write of a script decides whether it runs: here one that frees. Signs
-- of life and departures are taken there; arrivals are not.
local function note_server(score, name)
  redis.call('ZREM', servers, name)
  redis.call('ZADD', servers, score, name)
end

local function report(user, is_online)
  redis.call('XADD', events, 'MAXLEN', '~', MAX_EVENTS, '*', 'user', user, 'online', is_online)
end

local function depart(user)
  if redis.call('HINCRBY', online, user, -1) > 0 then return end
  redis.call('HDEL', online, user)
  if watched then redis.call('ZADD', leaving, now + delay, user) end
end

-- Takes some of a server's users offline; the server is removed with the last of them.
local function take_down(lost)
  note_server(0, lost)
  local users = redis.call('SPOP', users_of .. lost, limit)
  for _, user in ipairs(users) do depart(user) end
  if #users == limit then return MORE end
  redis.call('ZREM', servers, lost)
  return DONE
end

-- Notes joins and leaves of a session: for each, the room and what `note` takes.
-- KEYS: rooms left
-- ARGV: lasts changes...
-- INCLUDE: rooms
local rooms, left = KEYS[1], KEYS[2]
local lasts = ARGV[1]

redis.call('PEXPIRE', rooms, lasts)
for number = 2, #ARGV, 2 do
  note(rooms, left, ARGV[number], ARGV[number + 1], lasts)
end

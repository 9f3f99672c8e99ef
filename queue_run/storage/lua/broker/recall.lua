-- Tells what a question of a taker got, and sees to it that it gets nothing later.
-- KEYS: notes
-- ARGV: number kept
-- RETURNS: the tag of what it got; empty for nothing
local notes = KEYS[1]
local number, kept = ARGV[1], ARGV[2]

local last = redis.call('GET', notes)
local answered, tag = string.match(last or '', '^(%d+) (.*)$')
if answered == number then return tag end
-- In a full Redis the first write decides: this one frees.
redis.call('DEL', notes)
redis.call('SET', notes, number .. ' ', 'PX', kept)
return ''

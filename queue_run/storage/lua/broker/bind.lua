-- Binds a queue in tables that have it already, as a rule. A full Redis runs it, since its first
-- write frees.
-- KEYS: tables...
-- ARGV: member
local member = ARGV[1]

for _, bindings in ipairs(KEYS) do
  redis.call('SREM', bindings, member)
  redis.call('SADD', bindings, member)
end

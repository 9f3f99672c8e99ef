-- Puts a new epoch in the place of one that ended, unless another server has done so; in a full
-- Redis too, since its first write frees.
-- KEYS: epoch
-- ARGV: ended following
-- RETURNS: the epoch that is in force
local epoch = KEYS[1]
local ended, following = ARGV[1], ARGV[2]

if redis.call('GET', epoch) == ended then
  redis.call('DEL', epoch)
  redis.call('SET', epoch, following)
end
return redis.call('GET', epoch)

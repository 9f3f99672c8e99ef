-- Takes a dead letter back, so that its job can begin anew. Gives what the script answers when the
-- letter is gone, and nothing when it has taken it.
local function take_back(job, letters, index, id, token, living)
  if redis.call('HDEL', letters, id) == 0 then
    return redis.call('HGET', job, 'revived') == token and 1 or 0
  end
  redis.call('ZREM', index, id)
  redis.call('DEL', job)
  redis.call('HSET', job, 'revived', token)
  redis.call('PEXPIRE', job, living)
end

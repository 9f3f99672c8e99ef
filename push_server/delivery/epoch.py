"""The epoch of the channel: random text that Redis keeps with the streams.

Another one tells that Redis has lost them, or goes on from an older copy: offsets of one epoch say
nothing in another.
"""

import hashlib
import secrets
from typing import cast

import redis.asyncio

from queue_run.channel.listener import Offset, parse_offset
from queue_run.contracts.keys import Keys

#: Puts a new epoch in the place of one that ended, unless another server has done so; in a full
#: Redis too, since its first write frees.
RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
"""

# KEYS: a stream. The answer: its last entry's offset, and the last that it has ever given out.
END = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'0-0', '0-0'}
end
local facts = redis.call('XINFO', 'STREAM', KEYS[1])
local last, generated = '0-0', '0-0'
for i = 1, #facts, 2 do
  if facts[i] == 'last-generated-id' then
    generated = facts[i + 1]
  elseif facts[i] == 'last-entry' and facts[i + 1] then
    last = facts[i + 1][1]
  end
end
return {last, generated}
"""


def new_epoch() -> str:
    return secrets.token_hex(6)


def after(epoch: str, history: str) -> str:
    """The epoch that follows when another Redis took over, which may lack entries: the same for all
    who see it.

    Args:
        history: what that Redis calls its own.
    """
    return hashlib.sha256(f"{epoch} {history}".encode()).hexdigest()[:12]


async def read(client: redis.asyncio.Redis, keys: Keys) -> str:
    """The epoch; made where there is none.

    Raises:
        redis.exceptions.RedisError: when Redis does not answer.
    """
    found = await client.get(keys.epoch)
    if found is not None:
        # The usual case; a Redis that is full refuses to write, also where nothing would change.
        return cast("bytes", found).decode()
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.set(keys.epoch, new_epoch(), nx=True)
        pipeline.get(keys.epoch)
        _, found = await pipeline.execute()
    return cast("bytes", found).decode()


async def renew(client: redis.asyncio.Redis, keys: Keys, ended: str, following: str) -> None:
    """Let another epoch begin, if the one that ended is still in force there.

    Raises:
        redis.exceptions.RedisError: when Redis does not answer.
    """
    await client.eval(RENEW, 1, keys.epoch, ended, following)


async def not_before(client: redis.asyncio.Redis, keys: Keys) -> Offset:
    """Behind which offset all entries will stand that are written from now on.

    Raises:
        redis.exceptions.RedisError: when Redis does not answer.
    """
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.eval(END, 1, keys.broadcast)
        (seconds, micros), (_, generated) = await pipeline.execute()
    return max((seconds * 1000 + micros // 1000, 0), parse_offset(cast("bytes", generated)))

"""The epoch of the channel: random text that Redis keeps with the streams.

Another one tells that Redis has lost them, or goes on from an older copy: offsets of one epoch say
nothing in another.
"""

import secrets
from typing import cast

import redis.asyncio

from queue_run.keys import Keys

#: Puts a new epoch in the place of one that ended, unless another server has done so.
RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
"""


def new_epoch() -> str:
    return secrets.token_hex(6)


async def read(client: redis.asyncio.Redis, keys: Keys) -> str:
    """The epoch; made where there is none.

    Raises:
        redis.exceptions.RedisError: when Redis does not answer.
    """
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.set(keys.epoch, new_epoch(), nx=True)
        pipeline.get(keys.epoch)
        _, found = await pipeline.execute()
    return cast("bytes", found).decode()


async def renew(client: redis.asyncio.Redis, keys: Keys, ended: str) -> None:
    """Let another epoch begin, if this one has not ended already.

    Raises:
        redis.exceptions.RedisError: when Redis does not answer.
    """
    await client.eval(RENEW, 1, keys.epoch, ended, new_epoch())

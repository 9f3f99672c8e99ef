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
from queue_run.storage.script_files import load

_RENEW = load("channel/renew_epoch")
#: Tells a stream's last offset, and the last that it has ever given out.
END = load("channel/end")


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
    await client.eval(*_RENEW.given([keys.epoch], [ended, following]))


async def not_before(client: redis.asyncio.Redis, keys: Keys) -> Offset:
    """Ask Redis for an offset behind which all later entries will stand.

    Raises:
        redis.exceptions.RedisError: when Redis does not answer.
    """
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.eval(*END.given([keys.broadcast], []))
        (seconds, micros), (_, generated) = await pipeline.execute()
    return max((seconds * 1000 + micros // 1000, 0), parse_offset(cast("bytes", generated)))

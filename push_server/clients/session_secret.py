"""The secret of session ids that all push servers share, where the settings name none: Redis keeps
it, and each push server puts it back when Redis has lost it."""

import logging
import secrets
from typing import cast

import redis.asyncio

from push_server.clients.sessions import Seals
from queue_run.contracts.keys import Keys

log = logging.getLogger(__name__)

#: Bytes that can be no secret of ours.
_TOO_FEW = 16


class SharedSecret:
    """The secret of this push server: that of its settings, or the one that Redis keeps.

    Args:
        given: by the settings; empty without one.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, given: str) -> None:
        self._client = client
        self._keys = keys
        self._given = bool(given)
        self.seals = Seals(given.encode() or new_secret())

    async def agree(self) -> None:
        """Have the same as the other push servers.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        if not self._given:
            await agree(self._client, self._keys, self.seals)


def new_secret() -> bytes:
    return secrets.token_hex(32).encode()


async def agree(client: redis.asyncio.Redis, keys: Keys, seals: Seals) -> None:
    """Use the secret that Redis has; where it has none, give it ours.

    Raises:
        redis.exceptions.RedisError: when Redis does not answer.
    """
    secret = cast("bytes | None", await client.get(keys.session_secret))
    if secret is None:
        # Only then: a Redis that is full takes nothing.
        await client.set(keys.session_secret, seals.secret, nx=True)
        secret = cast("bytes | None", await client.get(keys.session_secret))
    if secret is None or secret == seals.secret:
        return
    if len(secret) < _TOO_FEW:
        # Whoever wrote it: with it, anybody could make sessions.
        log.error("%s in Redis is no secret: delete that key", keys.session_secret)
        return
    seals.adopt(secret)
    log.info("session ids are sealed with the secret that Redis has")

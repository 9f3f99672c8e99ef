"""The stream of one push server, on which workers write what is for its connections."""

import redis.asyncio

from queue_run.contracts.envelopes import Hello, encode
from queue_run.storage.script_files import load

_CREATE = load("channel/create_stream")


class OwnStream:
    """Keeps a push server's stream in Redis: workers write to streams that exist.

    Args:
        heartbeat_expiry: seconds after the last heartbeat at which the server counts as dead.
        session_time: seconds for which a session outlives its socket.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        name: str,
        *,
        heartbeat_expiry: float,
        session_time: float,
    ) -> None:
        self._redis = client
        self.name = name
        self._session_time = round(session_time)
        #: Seconds for which it outlives the last heartbeat: clients that have resumed elsewhere
        #: find the outcomes of their requests in it.
        self.expiry = round(heartbeat_expiry + session_time)

    async def create(self) -> None:
        """
        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        arguments = [encode(Hello()), 1000 * self.expiry]
        await self._redis.eval(*_CREATE.given([self.name], arguments))

    async def renew(self) -> bool:
        """Let it live on; whether it was there. Also in a full Redis.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        return bool(await self._redis.expire(self.name, self.expiry))

    async def leave(self) -> None:
        """Let it expire, at the end of this server. It is not deleted: it may hold outcomes for
        clients that resume elsewhere.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        await self._redis.expire(self.name, self._session_time)

"""Links to Redis for what the channel does thousands of times a second.

redis-py's clients take longer for a command than the command does (a pool, retries, callbacks, a
parse for each form of answer). Here its connections are used as they are: they know of URLs,
passwords and TLS, and the answers are taken as they come.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

Command: TypeAlias = Sequence[str | bytes | int]


class BlockingLink:
    """One connection, opened when it is first used and again after it broke. For one thread at a
    time."""

    def __init__(self, url: str, *, timeout: float) -> None:
        """
        Args:
            timeout: seconds that an answer may take.
        """
        pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        self._connection: Any = pool.make_connection()

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands and take their answers, in one round trip.

        A command that Redis refused has its error as its answer.

        Raises:
            RedisError, OSError: when not all answers came; some commands may have been done.
        """
        connection = self._connection
        packed = b"".join(part for each in commands for part in connection.pack_command(*each))
        connection.send_packed_command([packed])
        return [self._answer() for _ in commands]

    def _answer(self) -> Any:
        try:
            return self._connection.read_response(disable_decoding=True)
        except ResponseError as refusal:
            return refusal

    def close(self) -> None:
        self._connection.disconnect()


class AsyncLink:
    """One connection, opened when it is first used and again after it broke; for one task. It has
    no time limit of its own but for connecting.
    """

    def __init__(self, url: str, *, connect_timeout: float) -> None:
        pool = redis.asyncio.ConnectionPool.from_url(
            url,
            # The caller's limits: with redis-py's own, Python 3.11 can lose a cancellation
            # (`asyncio.wait_for` of a write that has just ended).
            socket_timeout=None,
            socket_connect_timeout=connect_timeout,
            socket_keepalive=True,
            retry=AsyncRetry(NoBackoff(), 0),
        )
        self._connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]

    async def ask(self, *command: str | bytes | int) -> Any:
        """The answer to one command, as it came.

        Raises:
            RedisError, OSError: when Redis refused, or the link broke.
        """
        connection = self._connection
        await connection.send_packed_command(connection.pack_command(*command))
        return await connection.read_response(disable_decoding=True)

    async def close(self) -> None:
        await self._connection.disconnect()

"""Links to Redis for what the channel does thousands of times a second.

redis-py's clients take longer for a command than the command does (a pool, retries, callbacks, a
parse for each form of answer). Here its connections are used as they are: they know of URLs,
passwords and TLS, and the answers are taken as they come.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

import hiredis
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
    """One connection, opened when it is first used and again after it broke; for one task at a
    time.

    redis-py opens it. What comes after that is read by a protocol of our own: a stream reader
    would cost more for each answer than the answer's way to a client.
    """

    def __init__(self, url: str, *, connect_timeout: float) -> None:
        """
        Args:
            connect_timeout: seconds.
        """
        self._pool = redis.asyncio.ConnectionPool.from_url(
            url,
            socket_timeout=None,
            socket_connect_timeout=connect_timeout,
            socket_keepalive=True,
            retry=AsyncRetry(NoBackoff(), 0),
        )
        self._answers: _Answers | None = None

    async def ask(self, *command: str | bytes | int, patience: float) -> Any:
        """The answer to one command, as it came.

        Args:
            patience: seconds after which there will be none.

        Raises:
            RedisError, OSError: when Redis refused or gave no answer, or the link broke.
        """
        answers = self._answers
        if answers is None or answers.lost:
            answers = self._answers = await self._open()
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # of any length
        return await answers.next(packed, patience)

    async def close(self) -> None:
        if self._answers is not None:
            self._answers.abort()

    async def _open(self) -> "_Answers":
        connection: Any = self._pool.make_connection()  # type: ignore[no-untyped-call]
        await connection.connect()
        # It has no public way to give its transport away.
        answers = _Answers(connection, connection._writer.transport)
        answers.transport.set_protocol(answers)
        return answers


class _Answers(asyncio.Protocol):
    """The answers that come over one connection, one at a time."""

    def __init__(self, connection: object, transport: asyncio.Transport) -> None:
        # Whose end would close the transport.
        self._connection = connection
        self.transport = transport
        self._reader = hiredis.Reader(replyError=ResponseError, notEnoughData=_NOTHING)
        self._waiting: asyncio.Future[Any] | None = None
        self.lost = False

    async def next(self, command: bytes, patience: float) -> Any:
        """Send a command and wait for its answer."""
        loop = asyncio.get_running_loop()
        self._waiting = waiting = loop.create_future()
        timer = loop.call_later(patience, self._give_up, patience)
        self.transport.write(command)
        try:
            answer = await waiting
        except BaseException:
            # A late answer would be taken for that of the next command.
            self.abort()
            raise
        finally:
            timer.cancel()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def abort(self) -> None:
        self.lost = True
        self.transport.abort()

    def _give_up(self, patience: float) -> None:
        self._fail(redis.TimeoutError(f"no answer within {patience:g} seconds"))

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not _NOTHING:
                # RESP3 tells of other things in between.
                if not isinstance(answer, hiredis.PushNotification):
                    self._take(answer)
        except hiredis.ProtocolError as error:
            self._fail(redis.ConnectionError(f"not an answer of Redis: {error}"))

    def _take(self, answer: Any) -> None:
        waiting = self._waiting
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._fail(redis.ConnectionError(f"the link broke: {error or 'closed by Redis'}"))


#: There is no whole answer yet.
_NOTHING = object()

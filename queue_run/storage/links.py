"""Links to Redis for what the channel does thousands of times a second.

redis-py's clients take longer for a command than the command does (a pool, retries, callbacks, a
parse for each form of answer). Here its connections are used as they are: they know of URLs,
passwords and TLS, and the answers are taken as they come.
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from queue_run.storage.patience import Unready, is_unready, redis_options, watched

Command: TypeAlias = Sequence[str | bytes | int]
#: What is asked next, when this was the answer; None for nothing.
Answered: TypeAlias = Callable[[Any], bytes | None]

#: Has a node answer a command over a link that was just opened.
Ask: TypeAlias = Callable[..., Awaitable[Any]]
#: Gets to know the node to which a new link leads.
Greet: TypeAlias = Callable[[Ask], Awaitable[None]]

#: Bytes that are read at once, at most.
READ_SIZE = 64 * 1024
#: How often it is looked whether an answer has come, while one is waited for.
LOOKS = 4


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
            **redis_options(url, timeout=timeout, connect_timeout=timeout),
            retry=Retry(NoBackoff(), 0),
        )
        pool.connection_class = watched(pool.connection_class)
        self._connection: Any = pool.make_connection()

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands and take their answers, in one round trip.

        A command that Redis refused has its error as its answer.

        Raises:
            RedisError, OSError: when not all answers came; some commands may have been done.
        """
        connection = self._connection
        packed = b"".join(part for each in commands for part in connection.pack_command(*each))
        try:
            connection.send_packed_command([packed])
            return [self._answer() for _ in commands]
        except BaseException:
            # Also the alarm of a job's time limit, which may ring at any place: answers that were
            # not read would be taken for those of the next commands.
            connection.disconnect()
            raise

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

    def __init__(self, url: str, *, connect_timeout: float, greet: Greet | None = None) -> None:
        """
        Args:
            connect_timeout: seconds.
            greet: called with each link that is opened, before anything else is asked over it. What
                it raises ends that link.
        """
        self._connect_timeout = connect_timeout
        self._greet = greet
        self._pool = redis.asyncio.ConnectionPool.from_url(
            url,
            **redis_options(url, timeout=None, connect_timeout=connect_timeout),
            retry=AsyncRetry(NoBackoff(), 0),
        )
        self._answers: _Answers | None = None

    async def converse(self, command: bytes, answered: Answered, *, patience: float) -> None:
        """Send a command, and then whatever `answered` makes of each answer, until that is None.

        `answered` is called where the answer is read, and not by way of a task: that would take
        longer than most of what is done with an answer.

        Args:
            patience: seconds after which an answer will not come, about.

        Raises:
            RedisError, OSError: when Redis refused or gave no answer, or the link broke.
            Exception: what `answered` raised.
        """
        answers = self._answers
        if answers is None or answers.lost:
            answers = self._answers = await self._open()
        await answers.converse(command, answered, patience)

    async def prove(self, key: str, *, patience: float) -> None:
        """Have the node show that it takes writes: on a replica, reading would wait for ever.

        Args:
            key: one that is never there.

        Raises:
            RedisError, OSError: when it takes none; the link is dropped.
        """
        # It does not grow: a full Redis takes it.
        await self.converse(packed("DEL", key), _stop, patience=patience)

    async def close(self) -> None:
        if self._answers is not None:
            self._answers.abort()

    async def _open(self) -> "_Answers":
        connection: Any = self._pool.make_connection()  # type: ignore[no-untyped-call]
        await connection.connect()
        if self._greet is not None:
            try:
                async with asyncio.timeout(self._connect_timeout):
                    await self._greet(functools.partial(_ask, connection))
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
        # It has no public way to give its transport away.
        answers = _Answers(connection, connection._writer.transport)
        answers.transport.set_protocol(answers)
        return answers


async def _ask(link: Any, *command: str) -> Any:
    await link.send_command(*command)
    return await link.read_response(disable_decoding=True)


class _Answers(asyncio.BufferedProtocol):
    """The answers that come over one connection, one at a time."""

    def __init__(self, link: object, transport: asyncio.Transport) -> None:
        # Whose end would close the transport.
        self._connection = link
        self.transport = transport
        self._buffer = bytearray(READ_SIZE)
        self._reader = hiredis.Reader(replyError=ResponseError, notEnoughData=_NOTHING)
        self._answered: Answered = _stop
        self._ended: asyncio.Future[None] | None = None
        #: How often in a row the timer has rung since the last answer.
        self._silences = 0
        self.lost = False

    async def converse(self, command: bytes, answered: Answered, patience: float) -> None:
        loop = asyncio.get_running_loop()
        self._answered = answered
        self._ended = ended = loop.create_future()
        self._silences = 0
        self.transport.write(command)
        self._timer = loop.call_later(patience / LOOKS, self._watch, patience)
        try:
            await ended
        except BaseException:
            # A late answer would be taken for that of the next command.
            self.abort()
            raise
        finally:
            self._timer.cancel()
            self._answered = _stop

    def abort(self) -> None:
        self.lost = True
        self.transport.abort()

    def _watch(self, patience: float) -> None:
        """One timer for many answers: it looks whether there was one since it was set."""
        self._silences += 1
        if self._silences > LOOKS:
            self._end(redis.TimeoutError(f"no answer within {patience:g} seconds"))
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(patience / LOOKS, self._watch, patience)

    def _end(self, error: Exception | None = None) -> None:
        ended = self._ended
        if ended is None or ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    # Called by the event loop.

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        reader = self._reader
        try:
            reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # any buffer
            while (answer := reader.gets()) is not _NOTHING:
                if isinstance(answer, hiredis.PushNotification):
                    # RESP3 tells of other things in between.
                    continue
                self._silences = 0
                if isinstance(answer, Exception):
                    self._end(answer)
                elif (following := self._answered(answer)) is None:
                    self._end()
                else:
                    self.transport.write(following)
        except hiredis.ProtocolError as error:
            self._end(redis.ConnectionError(f"not an answer of Redis: {error}"))
        except Exception as error:
            self._end(error)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._end(redis.ConnectionError(f"the link broke: {error or 'closed by Redis'}"))


def async_client(url: str, *, connect_timeout: float, retries: int) -> redis.asyncio.Redis:
    """A client for now and then, whose links are dropped when their node does not do its part.

    Its answers have no time limit: that is around each use.

    Args:
        connect_timeout: seconds.
        retries: how often a question whose link broke is asked again at once.
    """
    client = redis.asyncio.Redis.from_url(
        url,
        **redis_options(url, timeout=None, connect_timeout=connect_timeout),
        retry=AsyncRetry(NoBackoff(), retries),
    )
    pool = client.connection_pool
    kind: Any = pool.connection_class
    pool.connection_class = _dropped_when_unready(kind)
    return client


@functools.cache
def _dropped_when_unready(kind: type[Any]) -> type[Any]:
    """The same of redis-py's asynchronous connections as `patience.watched` of others."""

    class AsyncDropped(kind):  # type: ignore[misc]
        async def read_response(self, *arguments: Any, **options: Any) -> Any:
            try:
                return await super().read_response(*arguments, **options)
            except RedisError as error:
                if not is_unready(error):
                    raise
                await self.disconnect(nowait=True)
                raise Unready(str(error)) from error

    return AsyncDropped


async def drop_idle(client: redis.asyncio.Redis) -> None:
    """Close the links on which nobody waits for an answer.

    Where one link is dead, all of them may be: the next question is asked over a new one.
    """
    with contextlib.suppress(RedisError, OSError):
        await client.connection_pool.disconnect(inuse_connections=False)


def packed(*command: str | bytes | float) -> bytes:
    """A command as it is sent."""
    # Its stub knows of tuples with one element only.
    return hiredis.pack_command(command)  # type: ignore[arg-type, no-any-return]


def _stop(answer: Any) -> None:
    """Ask nothing more: the end of a conversation, for an answer that is not needed."""


#: There is no whole answer yet.
_NOTHING = object()

"""Reading the channel: several streams in one order each, across lost links."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

#: Milliseconds that one read waits for news; bounds how late a dead link is noticed.
BLOCK_MS = 5_000
#: Beyond the blocking read, how many seconds an answer may take.
ANSWER_TIMEOUT = 5.0
READ_COUNT = 500
#: A read that brought this many entries is followed by a pause, in seconds: entries that come in
#: meanwhile share the next read, which halves the cost under load and adds nothing when idle.
BUSY_COUNT, BUSY_PAUSE = 8, 0.002
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0

#: Position in a stream, in the order of the stream.
Offset: TypeAlias = tuple[int, int]


class Entry(NamedTuple):
    stream: str
    offset: Offset
    data: bytes


def parse_offset(text: str | bytes) -> Offset:
    """`b"1700000000000-3"` as a pair that compares as the stream does."""
    milliseconds, _, number = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(milliseconds), int(number or 0)


def format_offset(offset: Offset) -> str:
    return f"{offset[0]}-{offset[1]}"


class Listener:
    """Reads streams from the moment it is opened, each entry once and in order.

    After a lost link it continues behind the last entry that it gave out. When Redis no longer
    holds that entry (trimmed, or emptied), `on_gap` is called with the stream's name.
    """

    def __init__(
        self, url: str, streams: Sequence[str], *, on_gap: Callable[[str], None] | None = None
    ) -> None:
        self._client = redis.asyncio.Redis.from_url(
            url,
            # The time limits are ours, below: with redis-py's own, Python 3.11 can lose a
            # cancellation (`asyncio.wait_for` of a write that has just ended).
            socket_timeout=None,
            socket_connect_timeout=ANSWER_TIMEOUT,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        self._streams = tuple(streams)
        self._positions: dict[str, Offset] = {}
        self._on_gap = on_gap or _ignore_gap
        #: Whether the last contact with Redis succeeded.
        self.connected = False

    async def open(self) -> None:
        """Take the ends of the streams as the place to start from.

        Raises:
            redis.exceptions.RedisError, TimeoutError: when Redis does not answer.
        """
        async with asyncio.timeout(ANSWER_TIMEOUT):
            for stream in self._streams:
                self._positions[stream] = await self._end_of(stream)
        self.connected = True

    def position(self, stream: str) -> Offset:
        """The last entry given out, or passed over."""
        return self._positions[stream]

    async def batches(self) -> AsyncIterator[list[Entry]]:
        """Yield entries as they come, for ever; Redis's absence only makes it wait."""
        pause = FIRST_PAUSE
        while True:
            try:
                if not self.connected:
                    async with asyncio.timeout(ANSWER_TIMEOUT):
                        await self._resume()
                batch = await self._read()
            except (RedisError, OSError) as error:
                if self.connected:
                    log.warning("lost the channel, trying again: %s", str(error) or type(error))
                self.connected = False
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            if batch:
                yield batch
            if len(batch) >= BUSY_COUNT:
                await asyncio.sleep(BUSY_PAUSE)

    async def close(self) -> None:
        await self._client.aclose()

    async def _read(self) -> list[Entry]:
        async with asyncio.timeout(BLOCK_MS / 1000 + ANSWER_TIMEOUT):
            answer = await self._client.xread(
                {stream: format_offset(at) for stream, at in self._positions.items()},
                count=READ_COUNT,
                block=BLOCK_MS,
            )
        batch = []
        for name, entries in _pairs(answer):
            stream = name.decode()
            for raw_offset, fields in entries:
                offset = parse_offset(raw_offset)
                self._positions[stream] = offset
                # An entry that was deleted has no fields, one that is not ours other ones.
                data = (fields or {}).get(b"e")
                if data is not None:
                    batch.append(Entry(stream, offset, data))
        return batch

    async def _resume(self) -> None:
        """Find out, after a lost link, whether each stream still holds where we stopped."""
        for stream, position in self._positions.items():
            at = format_offset(position)
            if position == (0, 0) or await self._client.xrange(stream, at, at):
                continue
            end = await self._end_of(stream)
            if end < position:
                # Emptied, and its clock is behind ours: from our position we would wait for ever.
                self._positions[stream] = (0, 0)
            log.warning("the channel no longer holds what came after %s of %s", at, stream)
            self._on_gap(stream)
        self.connected = True
        log.info("the channel is back")

    async def _end_of(self, stream: str) -> Offset:
        last = await self._client.xrevrange(stream, count=1)
        return parse_offset(cast("bytes", last[0][0])) if last else (0, 0)


def _pairs(answer: Any) -> list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes] | None]]]]:
    """What XREAD answered, in the form of RESP2 whichever protocol the link speaks."""
    if isinstance(answer, dict):
        return [(name, chunk) for name, chunks in answer.items() for chunk in chunks]
    return list(answer or [])


def _ignore_gap(stream: str) -> None:
    """The default: a gap is logged and nothing else."""

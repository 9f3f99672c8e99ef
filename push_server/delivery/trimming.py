"""Cutting off what nobody needs any more: of this server's own stream, and of the broadcast stream.

What this server has read of its own stream is needed no more, but for the outcomes of sessions: a
client whose socket breaks repeats its request elsewhere, and is given the outcome from here
(`push_server.requests.late_outcomes`). These stay as long as their sessions may come back, within a
bound.
"""

import asyncio
import collections
import contextlib
import logging
from typing import Any, NamedTuple

from redis.exceptions import RedisError, ResponseError

from queue_run.channel.bounds import PART, ByteBound
from queue_run.channel.listener import ANSWER_TIMEOUT, Entry, Offset, format_offset
from queue_run.storage.clock import Clock

log = logging.getLogger(__name__)

#: What is kept is remembered in pieces of so many milliseconds, or of so large a part of the bound.
PIECE_MS, PIECES = 1000, 32
#: Seconds before Redis is asked again.
PAUSE = 1.0


class _Piece(NamedTuple):
    """Some entries of which at least one is kept."""

    #: Of the first of them.
    offset: Offset
    #: Bytes that were read before it.
    before: int


class Trimming:
    """Notes what the hub has read, and trims in the background.

    Args:
        client: a `redis.asyncio.Redis`.
        own: this server's stream.
        max_bytes: that a stream may take in Redis.
        kept_time: seconds for which outcomes of sessions are needed.
        kept_bytes: of what was read of the own stream, at most.
        interval: seconds between two looks.
    """

    def __init__(
        self,
        client: Any,
        clock: Clock,
        *,
        broadcast: str,
        own: str,
        max_bytes: int,
        kept_time: float,
        kept_bytes: int,
        interval: float,
    ) -> None:
        self._client = client
        self._clock = clock
        self._broadcast = broadcast
        self._own = own
        self._bound = ByteBound(max_bytes)
        self._kept_ms = kept_time * 1000
        self._kept_bytes = kept_bytes
        self._interval = interval
        #: The last entry of the own stream that was read, and the bytes up to there.
        self._read_to: Offset | None = None
        self._bytes = 0
        self._pieces: collections.deque[_Piece] = collections.deque()
        #: Before which entry, and after how many bytes, the own stream was last cut.
        self._cut_at: Offset | None = None
        self._cut_bytes = 0
        self._commands: list[Any] = []
        self._due = asyncio.Event()

    def has_read(self, entry: Entry) -> None:
        """The hub is done with an entry."""
        size = len(entry.data)
        if entry.stream == self._broadcast:
            command = self._bound.passed(entry.stream, size)
            if command is not None:
                self._commands = [command]
                self._due.set()
            return
        self._read_to = entry.offset
        self._bytes += size
        if self._bytes - self._cut_bytes > self._kept_bytes // PART:
            self._due.set()

    def keep(self, entry: Entry) -> None:
        """An entry has an outcome that a session may ask for once more."""
        pieces = self._pieces
        if pieces:
            last = pieces[-1]
            young = entry.offset[0] - last.offset[0] < PIECE_MS
            if young and self._bytes - last.before < self._kept_bytes // PIECES:
                return
        pieces.append(_Piece(entry.offset, self._bytes))

    async def run(self) -> None:
        """Trim, for ever; Redis's absence only makes it wait."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._due.wait()
            self._due.clear()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    await self.trim()
            except (RedisError, OSError) as error:
                log.info("streams are trimmed later: %s", str(error) or type(error))
                await asyncio.sleep(PAUSE)

    async def trim(self) -> None:
        """
        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        await self._trim_own()
        while self._commands:
            await self._cut_broadcast(self._commands.pop())

    async def _trim_own(self) -> None:
        first = self._first_needed()
        if first is None or first == self._cut_at:
            return
        bytes_read = self._bytes
        # About: whole blocks of entries, which costs Redis nothing to look through.
        await self._client.xtrim(self._own, minid=format_offset(first), approximate=True)
        self._cut_at, self._cut_bytes = first, bytes_read

    def _first_needed(self) -> Offset | None:
        """The first entry that must stay: the last that was read, by which the listener knows that
        it has missed nothing, or an earlier one."""
        oldest = self._clock.now() * 1000 - self._kept_ms - PIECE_MS
        pieces = self._pieces
        while pieces and (
            pieces[0].offset[0] < oldest or self._bytes - pieces[0].before > self._kept_bytes
        ):
            pieces.popleft()
        return pieces[0].offset if pieces else self._read_to

    async def _cut_broadcast(self, command: Any) -> None:
        try:
            await self._client.execute_command(*command)
        except ResponseError as error:
            self._bound.failed(error)

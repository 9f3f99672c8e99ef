"""Reading the channel: several streams in one order each, across lost links."""

import asyncio
import collections
import enum
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec
from redis.exceptions import RedisError, ResponseError

from queue_run.channel import nodes
from queue_run.channel.fences import FIELD_BYTES, is_late
from queue_run.storage.clock import Clock
from queue_run.storage.links import Ask, AsyncLink, async_client, drop_idle, packed
from queue_run.storage.patience import is_unready

log = logging.getLogger(__name__)

#: Milliseconds that one read waits for news; bounds how late a dead link is noticed.
BLOCK_MS = 2_000
#: Trimming is silent: after so many milliseconds without an answer a stream is asked whether it
#: still holds the place where we stopped, and after an answer that has as much as a stream keeps.
STALLED_MS = 5 * BLOCK_MS
#: The same, when what was read last was written so many milliseconds ago: as much as a stream may
#: hold cannot have been written since.
FRESH_MS = 200
#: Beyond the blocking read, how many seconds an answer may take.
ANSWER_TIMEOUT = 3.0
READ_COUNT = 500
#: Seconds after which the node shows again that it takes writes.
PROOF_INTERVAL = 5.0
#: A read that brought this many entries is followed by a pause, in seconds: entries that come in
#: meanwhile share the next read, which halves the cost under load and adds nothing when idle.
BUSY_COUNT, BUSY_PAUSE = 8, 0.002
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
#: Seconds between two places of a stream that are remembered, and how many are: a replica that was
#: promoted may lack the last ones.
FOOTHOLD_INTERVAL, FOOTHOLDS = 0.25, 120

#: Position in a stream, in the order of the stream.
Offset: TypeAlias = tuple[int, int]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One envelope of a stream."""

    stream: str
    offset: Offset
    data: bytes


def parse_offset(text: str | bytes) -> Offset:
    """`b"1700000000000-3"` as a pair that compares as the stream does."""
    milliseconds, _, number = text.partition(b"-" if isinstance(text, bytes) else "-")  # type: ignore[arg-type]
    return int(milliseconds), int(number or 0)


def format_offset(offset: Offset) -> str:
    return f"{offset[0]}-{offset[1]}"


#: Takes a batch; what it returns is to be awaited before the next one.
Take: TypeAlias = Callable[[list[Entry]], Awaitable[None] | None]


class LostEntries(NamedTuple):
    """Entries of a stream were lost before they could be read."""

    stream: str
    #: Whether offsets begin anew: Redis was emptied and its clock is behind ours, or it is a copy
    #: that had not had everything.
    went_back: bool
    #: What another primary calls its history that may lack entries of the one before; None where it
    #: is the same one, or is known to lack nothing.
    history: str | None = None


class State(enum.Enum):
    """The states of a listener, by what it does before it reads on."""

    #: Wait for Redis, and find out what is missing: the last contact failed.
    AWAY = "away"
    #: Find out what is missing: streams may have been cut unread.
    DOUBTFUL = "doubtful"
    #: Pause: the last read brought many entries, and those that come meanwhile share the next.
    BUSY = "busy"
    #: Nothing.
    READING = "reading"


# Each look-up in an enumeration costs as much as a call.
_AWAY, _DOUBTFUL, _BUSY, _READING = State

#: Hears of a gap.
OnGap: TypeAlias = Callable[[LostEntries], None]


class Listener:
    """Reads streams from the moment it is opened, each entry once and in order.

    After a lost link it continues behind the last entry that it gave out. When Redis no longer
    holds that entry (trimmed, or emptied), it tells of a gap and continues with the first that
    there is.
    """

    def __init__(
        self,
        url: str,
        streams: Sequence[str],
        *,
        clock: Clock | None = None,
        kept_entries: int = READ_COUNT,
        kept_bytes: int = 1024 * 1024,
    ) -> None:
        """
        Args:
            clock: Redis' time, by which it is known how old news are.
            kept_entries, kept_bytes: of so many entries, or of so many bytes, a stream always keeps
                the newest when it is cut.
        """
        self._clock = clock
        self._kept_entries = min(READ_COUNT, kept_entries)
        self._kept_bytes = kept_bytes
        #: What may have a gap before it, and is not given out before that is known.
        self._unproved: _Read | None = None
        #: By Redis' clock, in milliseconds: at that time nothing had been written that was not
        #: read, or cut off that was.
        self._complete_at = 0.0
        # The time limits are ours, below: with redis-py's own, Python 3.11 can lose a cancellation
        # (`asyncio.wait_for` of a write that has just ended).
        self._client = async_client(url, connect_timeout=ANSWER_TIMEOUT, retries=0)
        #: For reading; the client is for questions.
        self._link = AsyncLink(url, connect_timeout=ANSWER_TIMEOUT, greet=self._recognise)
        self._succession = nodes.Succession()
        #: When a node that was read from last answered.
        self._heard_at = time.monotonic()
        self._streams = {stream.encode(): stream for stream in streams}
        #: Of each stream the last entry given out, or passed over, as Redis writes it.
        self._places: dict[str, bytes] = {}
        #: Of each stream some of the entries given out, the newest last.
        self._footholds: dict[str, collections.deque[Offset]] = {
            stream: collections.deque(maxlen=FOOTHOLDS) for stream in streams
        }
        self._next_foothold = 0.0
        self._probe = f"{streams[0]}:probe" if streams else "probe"
        #: When the node that is read from last took a write.
        self._proved_at = -PROOF_INTERVAL
        self._on_gap: OnGap = _ignore_gap
        self._state = _AWAY
        self._take: Take = _ignore
        #: What `take` is not done with.
        self._taking: Awaitable[None] | None = None
        #: When the last question or answer was.
        self._stepped_at = time.monotonic()

    @property
    def connected(self) -> bool:
        """True if the last contact with Redis succeeded."""
        return self._state is not _AWAY

    async def open(self) -> None:
        """Take the ends of the streams as the place to start from.

        Raises:
            redis.exceptions.RedisError, TimeoutError: when Redis does not answer.
        """
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await self._prove_node()
            for stream in self._streams.values():
                self._go_to(stream, await self._end_of(stream))
                self._footholds[stream].append(self.position(stream))
        self._state = _READING

    def position(self, stream: str) -> Offset:
        """The last entry given out, or passed over."""
        return parse_offset(self._places[stream])

    def _go_to(self, stream: str, offset: Offset) -> None:
        self._places[stream] = format_offset(offset).encode()

    async def before(self, stream: str, since: Offset) -> AsyncIterator[list[Entry]]:
        """The entries after `since`, up to the position, in pages.

        Raises:
            redis.exceptions.RedisError, TimeoutError: when Redis does not answer.
        """
        end = format_offset(self.position(stream))
        start = format_offset(since)
        while True:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                page = await self._client.xrange(stream, f"({start}", end, count=READ_COUNT)
            if not page:
                return
            entries = _entries(stream, cast("_Page", page))
            start = format_offset(parse_offset(cast("_Page", page)[-1][0]))
            yield entries

    async def complete_since(self, stream: str, since: Offset) -> Offset:
        """After which offset, `since` or an earlier one, nothing of the stream is missing.

        Where entries have been cut off, it may be a later one.

        Raises:
            redis.exceptions.RedisError, TimeoutError: when Redis does not answer.
        """
        async with asyncio.timeout(ANSWER_TIMEOUT):
            found = await self._client.xrevrange(stream, format_offset(since), count=1)
            if found:
                return parse_offset(cast("_Page", found)[0][0])
            first = cast("_Page", await self._client.xrange(stream, count=1))
            if not first or await self._was_never_cut(stream):
                return (0, 0)
            return _before(parse_offset(first[0][0]))

    async def _was_never_cut(self, stream: str) -> bool:
        facts = await self._client.xinfo_stream(stream)
        # Redis counts them since version 7.
        return bool(facts.get("entries-added", -1) == facts["length"])

    async def run(self, take: Take, on_gap: OnGap | None = None) -> None:
        """Give out entries as they come, for ever; Redis's absence only makes it wait.

        Args:
            take: gets each batch; what it returns is awaited before the next one. It must not
                raise.
            on_gap: called with each gap, before what comes behind it is given out.
        """
        self._take = take
        self._on_gap = on_gap or _ignore_gap
        pause = FIRST_PAUSE
        while True:
            try:
                await self._prove_node()
                if self._may_have_missed():
                    async with asyncio.timeout(ANSWER_TIMEOUT):
                        await self._look_for_gaps()
                await self._link.converse(
                    self._question(), self._answered, patience=BLOCK_MS / 1000 + ANSWER_TIMEOUT
                )
                await self._prove()
            except (RedisError, OSError) as error:
                await drop_idle(self._client)
                if self.connected:
                    log.warning("lost the channel, trying again: %s", str(error) or type(error))
                    # At once: a node that has just become a replica says so before the address
                    # stands for another one, and how far it went.
                    self._state = _AWAY
                    continue
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            if self._taking is not None:
                taking, self._taking = self._taking, None
                await taking
            if self._state is _BUSY:
                await asyncio.sleep(BUSY_PAUSE)

    async def _prove_node(self) -> None:
        """Leave a node that has become a replica: reads are answered there, with nothing."""
        now = time.monotonic()
        if self.connected and now - self._proved_at < PROOF_INTERVAL:
            return
        await self._link.prove(self._probe, patience=ANSWER_TIMEOUT)
        self._proved_at = now

    async def _recognise(self, ask: Ask) -> None:
        """Find out whether a new link leads to another node, which may not have had everything."""
        # Questions are to go where it leads.
        await drop_idle(self._client)
        try:
            info = [await ask("INFO", section) for section in ("server", "replication")]
        except ResponseError as error:
            if is_unready(error):
                raise
            # A user that may not ask, or none of these answers.
            log.debug("Redis does not tell which node it is: %s", error)
            return
        node = nodes.parse(b"\r\n".join(info))
        log.debug("a link leads to %s", node)
        now = time.monotonic()
        if node is not None:
            self._succession.meet(node, away=now - self._heard_at)
            if node.is_primary:
                self._heard_at = now

    def _question(self) -> bytes:
        return packed(
            *("XREAD", "COUNT", READ_COUNT, "BLOCK", BLOCK_MS, "STREAMS"),
            *self._places,
            *self._places.values(),
        )

    def _answered(self, answer: Any) -> bytes | None:
        """Give out what was read, and read on at once where nothing speaks against it."""
        # Redis answers after a moment, with nothing if need be.
        self._note_stall()
        self._heard_at = self._stepped_at
        if self._succession.doubtful:
            # The link was opened for this question: first it is told what may be missing.
            return None
        read = self._read(answer)
        if read.size >= self._kept_bytes or read.count >= self._kept_entries:
            # A stream that was cut still holds so much: its first entries may be gone.
            self._unproved = read
            return None
        self._give_out(read)
        if self._taking is not None or self._state is not _READING or not self._is_fresh():
            return None
        if self._stepped_at - self._proved_at > PROOF_INTERVAL:
            return None
        return self._question()

    def _give_out(self, read: "_Read") -> None:
        self._places.update(read.ends)
        # Without news it is not known when Redis gave this answer.
        self._complete_at = read.newest
        if self._state is not _DOUBTFUL:
            self._state = _BUSY if len(read.batch) >= BUSY_COUNT else _READING
        if self._stepped_at >= self._next_foothold and read.ends:
            self._next_foothold = self._stepped_at + FOOTHOLD_INTERVAL
            for stream in read.ends:
                self._footholds[stream].append(self.position(stream))
        self._taking = self._take(read.batch) if read.batch else None

    async def _prove(self) -> None:
        """Give out the entries that may have a gap before them.

        There is no gap where a stream still holds the entry before. Where it does not, a gap is
        reported, though that entry may have been cut only since then.
        """
        read, self._unproved = self._unproved, None
        if read is None:
            return
        async with asyncio.timeout(ANSWER_TIMEOUT):
            for stream, first in read.starts.items():
                position = self.position(stream)
                if position != (0, 0) and not await self._holds(stream, position):
                    self._go_to(stream, _before(first))
                    self._tell_gap(LostEntries(stream, False), position)
        self._give_out(read)

    def _read(self, answer: Any) -> "_Read":
        read = _Read()
        # RESP3 has maps.
        pairs = answer.items() if isinstance(answer, dict) else answer or ()
        for name, page in pairs:
            stream = self._streams[name]
            read.count = max(read.count, len(page))
            read.starts[stream] = parse_offset(page[0][0])
            read.ends[stream] = page[-1][0]
            for offset, fields in page:
                milliseconds, _, number = offset.partition(b"-")
                parsed = (int(milliseconds), int(number))
                # One that was deleted has no fields. Most have one envelope, and a fence.
                count = len(fields or ())
                if count == 4 and fields[0] == b"e" and fields[2] == FIELD_BYTES:
                    if not is_late(fields[3], parsed[0]):
                        read.add(stream, parsed, fields[1])
                    else:
                        log.info("an entry of %s came after its sender had given it up", stream)
                elif count == 2 and fields[0] == b"e":
                    read.add(stream, parsed, fields[1])
                elif count:
                    named = dict(zip(fields[::2], fields[1::2], strict=True))
                    for data in contents(named, parsed[0]):
                        read.add(stream, parsed, data)
            read.newest = max(read.newest, parsed[0])
        return read

    def doubt(self) -> None:
        """Look soon whether each stream still holds where we are: it may not."""
        if self._state is not _AWAY:
            self._state = _DOUBTFUL

    async def close(self) -> None:
        await self._link.close()
        await self._client.aclose()

    def _note_stall(self) -> None:
        """Note when reading has stood still: this process may have been stopped meanwhile."""
        now = time.monotonic()
        if (now - self._stepped_at) * 1000 > STALLED_MS:
            self.doubt()
        self._stepped_at = now

    def _may_have_missed(self) -> bool:
        """True if the streams may have been cut before we read them; Redis does not report that."""
        self._note_stall()
        sure = self._state in (_READING, _BUSY) and self._succession.doubtful is None
        return not sure or not self._is_fresh()

    def _is_fresh(self) -> bool:
        return self._clock is None or self._clock.now() * 1000 - self._complete_at < FRESH_MS

    async def _look_for_gaps(self) -> None:
        """Find out whether each stream still holds where we stopped, and what came after it."""
        if self._state is _DOUBTFUL:
            # Whoever doubts from now on has it looked for once more.
            self._state = _READING
        if self._clock is not None:
            self._complete_at = self._clock.now() * 1000
        found = [each for stream in self._places if (each := await self._gap_of(stream))]
        # From here on nothing fails: nobody is told twice.
        self._succession.doubtful = None
        for gap, place in found:
            position = self.position(gap.stream)
            self._go_to(gap.stream, place)
            self._tell_gap(gap, position)
        if self._state is _AWAY:
            log.info("the channel is back")
            self._state = _READING

    async def _gap_of(self, stream: str) -> tuple[LostEntries, Offset] | None:
        """Find the gap in a stream behind our position, and the place to go on; None for no gap."""
        position = self.position(stream)
        history = self._succession.doubtful
        if position == (0, 0) or await self._holds(stream, position):
            return None if history is None else (LostEntries(stream, False, history), position)
        went_back = await self._end_of(stream) < position
        first = cast("_Page", await self._client.xrange(stream, count=1))
        if went_back or history is not None:
            place = await self._last_held(stream) if first else None
            if place is None:
                # From our position we would wait for ever.
                place = (0, 0) if went_back else position
            return LostEntries(stream, went_back, history), place
        if first:
            # What comes before the first entry that there is will not come.
            position = max(position, _before(parse_offset(first[0][0])))
        return LostEntries(stream, False), position

    async def _last_held(self, stream: str) -> Offset | None:
        """The newest place of ours that a stream still holds, in a Redis that is another copy."""
        position = self.position(stream)
        for place in reversed(self._footholds[stream]):
            if place not in ((0, 0), position) and await self._holds(stream, place):
                return place
        return None

    async def _holds(self, stream: str, offset: Offset) -> bool:
        at = format_offset(offset)
        return bool(await self._client.xrange(stream, at, at))

    def _tell_gap(self, gap: LostEntries, position: Offset) -> None:
        at = format_offset(position)
        if gap.history is not None:
            log.warning(
                "another Redis is there, which may lack what came after %s of %s", at, gap.stream
            )
        else:
            log.warning("the channel no longer holds what came after %s of %s", at, gap.stream)
        self._on_gap(gap)

    async def _end_of(self, stream: str) -> Offset:
        last = await self._client.xrevrange(stream, count=1)
        return parse_offset(cast("bytes", last[0][0])) if last else (0, 0)


class _Read:
    """The entries of one answer."""

    __slots__ = ("batch", "count", "ends", "newest", "size", "starts")

    def __init__(self) -> None:
        self.batch: list[Entry] = []
        #: Of each stream the first entry, and the last as Redis writes it.
        self.starts: dict[str, Offset] = {}
        self.ends: dict[str, bytes] = {}
        #: Milliseconds of the newest entry.
        self.newest = 0
        #: Of one stream, at most.
        self.count = 0
        #: Bytes.
        self.size = 0

    def add(self, stream: str, offset: Offset, data: bytes) -> None:
        self.batch.append(Entry(stream, offset, data))
        self.size += len(data)


#: Entries as redis-py's client gives them; one that was deleted has no fields.
_Page: TypeAlias = list[tuple[bytes, dict[bytes, bytes] | None]]


def _entries(stream: str, page: _Page) -> list[Entry]:
    return [
        Entry(stream, parsed, data)
        for parsed, fields in ((parse_offset(offset), fields) for offset, fields in page)
        for data in contents(fields or {}, parsed[0])
    ]


def contents(fields: Mapping[bytes, bytes], milliseconds: int) -> list[bytes]:
    """The envelopes in an entry, in order; an entry that is not ours has other fields.

    Args:
        milliseconds: of its offset. One that was written too late has nothing for anybody.
    """
    if is_late(fields.get(FIELD_BYTES, b""), milliseconds):
        return []
    return [value for name, value in fields.items() if name == b"e" or _is_shared(name)]


def _is_shared(name: bytes) -> bool:
    return name.startswith(b"e") and name[1:].isdigit()


def _before(offset: Offset) -> Offset:
    """The last position before this one."""
    milliseconds, number = offset
    return (milliseconds, number - 1) if number else (max(0, milliseconds - 1), 2**63)


def _ignore(batch: list[Entry]) -> None:
    """Drop a batch: the default before `run`, when there is no taker."""


def _ignore_gap(gap: LostEntries) -> None:
    """The default: a gap is logged and nothing else."""

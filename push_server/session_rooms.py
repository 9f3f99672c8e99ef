"""What Redis keeps of sessions, for clients that resume: that they live, and their rooms.

- A key for each session that lives. It outlives the socket by the session's time; while the client
  is here, it is renewed. Where it is missing, the session is over.
- A hash of the session's rooms, each with the offset at which it was joined. It is kept for longer,
  so that a client that comes too late is told of the messages that it has missed there.
- Workers write there, too: what joins or leaves while no push server has the session
  (`queue_run.channel.memberships`). A leave of a user is a key of its own, which says when it was.
"""

import asyncio
import collections
import contextlib
import logging
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

from push_server.connections import Connection, Connections
from push_server.epoch import END
from push_server.position import Position
from queue_run.channel.listener import ANSWER_TIMEOUT, Offset, format_offset, parse_offset
from queue_run.channel.memberships import LATER
from queue_run.complaints import Complaints
from queue_run.ids import UserId
from queue_run.keys import Keys

log = logging.getLogger(__name__)

#: Changes written in one round trip, at most.
PIPELINE_SIZE = 200
#: Sessions that are asked for in one round trip, at most: all who asked go on in one iteration of
#: the loop.
ASKED_AT_ONCE = 32
#: Seconds before a write is tried again.
PAUSE = 0.5

# A full Redis runs all of these, since each begins with a write that only expires or frees: what
# they note has happened already.

# KEYS: sessions. ARGV: how long they live from now on. In one command: redis-py takes longer for
# one than Redis does for all of them.
KEEP = """
for _, session in ipairs(KEYS) do
  if redis.call('PEXPIRE', session, ARGV[1]) == 0 then
    redis.call('SET', session, '', 'PX', ARGV[1])
  end
end
"""
# KEYS: rooms of a session. ARGV: the room, the offset of the change, how long all is kept.
JOIN = (
    LATER
    + """
local held = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if not held or later(ARGV[2], held) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
)
# As JOIN, for a room that the session is in already: unless Redis knows it.
STAY = """
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
LEAVE = (
    LATER
    + """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and not later(held, ARGV[2]) then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
"""
)
# KEYS: a session, and its rooms. ARGV: what keys of leaves of its user begin with, if it has one.
# The answer: whether it lives; each of its rooms, when it was joined, and when its user left it.
RECALL = """
local held, found = redis.call('HGETALL', KEYS[2]), {}
for i = 1, #held, 2 do
  local left = ARGV[1] ~= '' and redis.call('GET', ARGV[1] .. held[i])
  found[#found + 1] = held[i]
  found[#found + 1] = held[i + 1]
  found[#found + 1] = left or ''
end
return {redis.call('EXISTS', KEYS[1]), found}
"""


class Change(NamedTuple):
    session: str
    room: str
    joins: bool
    #: None: it is in the room already; Redis is told again.
    offset: Offset | None


class Recalled(NamedTuple):
    """What Redis knows at one moment."""

    #: Whether the session lives.
    alive: bool
    #: The rooms that it is in, or was when it ended.
    rooms: list[str]
    #: The last entry of the broadcast stream, and the last offset that it has ever given out.
    last: Offset
    generated: Offset


class Asked(NamedTuple):
    """A session that is asked for."""

    session: str
    user: UserId | None
    answer: "asyncio.Future[Recalled | None]"


class SessionRooms:
    """Writes which sessions this server has and their rooms, in the background and in order."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        connections: Connections,
        position: Position,
        *,
        session_time: float,
        window_time: float,
    ) -> None:
        self._client = client
        self._keys = keys
        self._connections = connections
        self._position = position
        self._session_time = session_time
        # Renewed twice in a session's time: when this server is killed, they live for that time.
        self._renewal_time = session_time / 2
        self._lives = max(1, round(2000 * session_time))
        self._ends = max(1, round(1000 * session_time))
        self._rooms_last = self._lives + round(1000 * window_time)
        self._waiting: collections.deque[Change] = collections.deque()
        #: Sessions of which Redis is to be told that they are here, or have just ended.
        self._told: dict[str, bool] = {}
        self._complaints = Complaints(log)
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        #: Those that are asked for next.
        self._asked: collections.deque[Asked] = collections.deque()
        self._asking: asyncio.Task[None] | None = None

    # What happens here.

    def opened(self, session: str) -> None:
        """Note that a client with this session is here; at once, for it may ask something, and this
        server be killed."""
        self._told[session] = True
        self._wake.set()

    def closed(self, connection: Connection) -> None:
        """Note that a connection has ended: its session does, some time after it."""
        state = connection.envelope
        if state is not None and self._holds(connection, state.session):
            self._told[state.session] = False
            self._wake.set()

    def changed(self, session: str, room: str, *, joins: bool, offset: Offset) -> None:
        """Note a join or a leave, and where in the stream it stands."""
        self._waiting.append(Change(session, room, joins, offset))
        self._wake.set()

    def renew(self) -> None:
        """Write everything anew: Redis may have lost it."""
        for connection in self._connections:
            state = connection.envelope
            # One whose session is another connection's by now is told of no changes any more.
            if state is None or not self._holds(connection, state.session):
                continue
            self._told[state.session] = True
            for room in connection.rooms:
                self._waiting.append(Change(state.session, room, True, None))
        self._wake.set()

    def _holds(self, connection: Connection, session: str) -> bool:
        return self._connections.of_session(session) is connection

    # What is known elsewhere.

    async def of(self, session: str, user: UserId | None) -> Recalled | None:
        """What Redis knows of a session of this user; None while it is away."""
        asked = Asked(session, user, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if self._asking is None:
            self._asking = asyncio.create_task(self._answer())
        return await asked.answer

    async def _answer(self) -> None:
        """Answer all, in one round trip at a time: whoever asks meanwhile shares the next. So those
        who come at once, some in each iteration of the loop, need few of them."""
        while self._asked:
            asked = [self._asked.popleft() for _ in range(min(len(self._asked), ASKED_AT_ONCE))]
            try:
                answers = await self._ask([(each.session, each.user) for each in asked])
            except Exception as error:
                # A defect: whoever waits says so.
                for each in asked:
                    if not each.answer.done():
                        each.answer.set_exception(error)
                continue
            for each, recalled in zip(asked, answers, strict=True):
                if not each.answer.done():
                    each.answer.set_result(recalled)
        self._asking = None

    async def _ask(self, sessions: list[tuple[str, UserId | None]]) -> "list[Recalled | None]":
        """What is known of each."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                # First what this server knows better.
                for _ in range(1 + max(len(self._told), len(self._waiting)) // PIPELINE_SIZE):
                    await self._write_some()
                *found, end = await self._pipeline_of(sessions).execute()
        except (RedisError, OSError) as error:
            log.error("sessions cannot be read: %s", str(error) or type(error))
            return [None] * len(sessions)
        recalled = [_recalled(each, end) for each in found]
        if self._told or self._waiting:
            pairs = zip(sessions, recalled, strict=True)
            return [self._with_what_waits(session, each) for (session, _), each in pairs]
        return list(recalled)

    def _with_what_waits(self, session: str, recalled: Recalled) -> Recalled:
        """What is known here, and Redis has not taken."""
        rooms = set(recalled.rooms)
        for change in self._waiting:
            if change.session == session:
                (rooms.add if change.joins else rooms.discard)(change.room)
        alive = recalled.alive or session in self._told
        return recalled._replace(alive=alive, rooms=list(rooms))

    def _pipeline_of(self, sessions: list[tuple[str, UserId | None]]) -> Any:
        keys = self._keys
        pipeline = self._client.pipeline(transaction=False)
        for session, user in sessions:
            lefts = "" if user is None else keys.left_room(user, "")
            pipeline.eval(RECALL, 2, keys.session(session), keys.session_rooms(session), lefts)
        # Last: it stands behind all changes of rooms that were found.
        pipeline.eval(END, 1, keys.broadcast)
        return pipeline

    async def run(self) -> None:
        """Write what changes, and renew what is there, for ever."""
        loop = asyncio.get_running_loop()
        renewal = loop.time() + self._renewal_time
        while True:
            if not self._waiting and not self._told:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(renewal):
                        await self._wake.wait()
            # However much changes: what does not change must not expire.
            if loop.time() >= renewal and len(self._waiting) < PIPELINE_SIZE:
                renewal = loop.time() + self._renewal_time
                self.renew()
            self._wake.clear()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    await self._write_some()
            except (RedisError, OSError) as error:
                why = str(error) or type(error)
                self._complaints.tell(
                    "sessions",
                    "the rooms of sessions wait for Redis: %s",
                    why,
                    level=logging.WARNING,
                )
                await asyncio.sleep(PAUSE)

    async def close(self) -> None:
        """Write what waits.

        Raises:
            redis.exceptions.RedisError, OSError: when Redis does not take it.
        """
        while self._told or self._waiting:
            await self._write_some()

    async def _write_some(self) -> None:
        """
        Raises:
            redis.exceptions.RedisError, OSError: when Redis did not take it; it is kept.
        """
        async with self._writing:
            changes = [self._waiting[i] for i in range(min(len(self._waiting), PIPELINE_SIZE))]
            told = dict(list(self._told.items())[:PIPELINE_SIZE])
            if not changes and not told:
                return
            pipeline = self._client.pipeline(transaction=False)
            for here, lasts in ((True, self._lives), (False, self._ends)):
                keys = [
                    self._keys.session(each) for each, is_here in told.items() if is_here is here
                ]
                if keys:
                    pipeline.eval(KEEP, len(keys), *keys, lasts)
            for change in changes:
                self._write(pipeline, change)
            await pipeline.execute()
            for session, here in told.items():
                # Unless something else has become true meanwhile.
                if self._told.get(session) is here:
                    del self._told[session]
            for _ in changes:
                self._waiting.popleft()

    def _write(self, pipeline: Any, change: Change) -> None:
        key = self._keys.session_rooms(change.session)
        if change.offset is None:
            offset = format_offset(self._position.offset)
            pipeline.eval(STAY, 1, key, change.room, offset, self._rooms_last)
        elif change.joins:
            pipeline.eval(JOIN, 1, key, change.room, format_offset(change.offset), self._rooms_last)
        else:
            pipeline.eval(LEAVE, 1, key, change.room, format_offset(change.offset))


def _recalled(found: "list[Any]", end: list[bytes]) -> Recalled:
    alive, held = found
    rooms = [
        room.decode()
        for room, joined, left in zip(held[::3], held[1::3], held[2::3], strict=True)
        if not left or parse_offset(joined) > parse_offset(left)
    ]
    return Recalled(bool(alive), rooms, parse_offset(end[0]), parse_offset(end[1]))

"""Sessions in Redis, for clients that resume: which of them live, and their rooms.

- A key for each session that lives, with the offset at which it began. It outlives the socket by
  the session's time; while the client is here, it is renewed. Where it is missing, the session is
  over.
- A hash of the session's rooms, each with the offsets at which it was joined and left, and one of
  the rooms that it has left: so it is known in which rooms it was at the offset of its client. They
  are kept for longer, so that a client that comes too late is told of the messages that it has
  missed there.
- Workers write there, too: what joins or leaves while no push server has the session
  (`queue_run.channel.memberships`). A leave of a user is a key of its own, which says when it was.
"""

import asyncio
import collections
import contextlib
import itertools
import logging
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

from push_server.clients.connections import Connection, Connections
from push_server.delivery.epoch import END
from push_server.delivery.position import Position
from push_server.delivery.room_history import BEGINNING, RoomChange, RoomHistory, parse_changes
from queue_run.channel.listener import ANSWER_TIMEOUT, Offset, format_offset, parse_offset
from queue_run.channel.memberships import KNOWN_SINCE
from queue_run.contracts.ids import UserId
from queue_run.contracts.keys import Keys
from queue_run.logs.complaints import Complaints
from queue_run.storage.script_files import load

log = logging.getLogger(__name__)

#: Changes written in one round trip, at most.
PIPELINE_SIZE = 200
#: Rooms that are renewed in one command, at most.
ROOMS_AT_ONCE = 100
#: Sessions that are asked for in one round trip, at most: all who asked go on in one iteration of
#: the loop.
ASKED_AT_ONCE = 32
#: Seconds before a write is tried again.
PAUSE = 0.5

# A full Redis runs all of these, since each begins with a write that only expires or frees: what
# they note has happened already.

_KEEP = load("sessions/keep")
_CHANGE = load("sessions/change")
_RENEW = load("sessions/renew")
_RECALL = load("sessions/recall")


class SessionNote(NamedTuple):
    """The state of a session that is to be written to Redis."""

    #: True while its connection is here; False when that has just ended.
    here: bool
    #: The offset at which it began.
    since: Offset


class Change(NamedTuple):
    """A join or a leave of a session."""

    session: str
    room: str
    change: RoomChange


class Renewal(NamedTuple):
    """Rooms in which a session is: Redis is told again."""

    session: str
    rooms: list[str]
    offset: Offset
    #: Whether what Redis has of the session is of another stream.
    anew: bool


class Recalled(NamedTuple):
    """The facts about a session that Redis had at one moment."""

    #: Whether the session lives.
    alive: bool
    #: Of the rooms that it is in and was in, or up to when it ended.
    history: RoomHistory
    #: The last entry of the broadcast stream, and the last offset that it has ever given out.
    last: Offset
    generated: Offset


class AskedSession(NamedTuple):
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
        self._waiting: collections.deque[Change | Renewal] = collections.deque()
        self._told: dict[str, SessionNote] = {}
        self._complaints = Complaints(log)
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        #: Those that are asked for next.
        self._asked: collections.deque[AskedSession] = collections.deque()
        self._asking: asyncio.Task[None] | None = None

    # What happens here.

    def opened(self, session: str, since: Offset) -> None:
        """Note that a client is here with this session, which began at an offset.

        Redis gets this at once: the client may ask something, and this server may be killed.
        """
        self._told[session] = SessionNote(True, since)
        self._wake.set()

    def untold(self, session: str) -> tuple[str, str] | None:
        """The key of a session that is here and what is to stand there, while Redis may not know;
        from any thread."""
        told = self._told.get(session)
        if told is None or not told.here:
            return None
        return self._keys.session(session), format_offset(told.since)

    def closed(self, connection: Connection) -> None:
        """Note that a connection has ended: its session ends some time later, unless resumed."""
        state = connection.session
        if state is not None and self._holds(connection, state.id):
            self._told[state.id] = SessionNote(False, state.since)
            self._wake.set()

    def changed(self, session: str, room: str, *, joins: bool, offset: Offset) -> None:
        """Note a join or a leave, and where in the stream it stands."""
        self._waiting.append(Change(session, room, RoomChange(offset, joins)))
        self._wake.set()

    def renew(self, *, anew: bool = False) -> None:
        """Write everything again: Redis may have lost it.

        Args:
            anew: offsets have begun anew: earlier ones mean nothing any more.
        """
        for connection in self._connections:
            state = connection.session
            # A session that another connection has by now is renewed with that connection.
            if state is None or not self._holds(connection, state.id):
                continue
            self._told[state.id] = SessionNote(True, state.since)
            rooms = list(connection.rooms)
            if anew and not rooms:
                self._waiting.append(Renewal(state.id, [], self._position.begun, anew))
            for first in range(0, len(rooms), ROOMS_AT_ONCE):
                part = rooms[first : first + ROOMS_AT_ONCE]
                self._waiting.append(
                    # What changes from now on stands behind this offset.
                    Renewal(state.id, part, self._position.begun, anew and not first)
                )
        self._wake.set()

    def _holds(self, connection: Connection, session: str) -> bool:
        return self._connections.of_session(session) is connection

    # What is known elsewhere.

    async def of(self, session: str, user: UserId | None) -> Recalled | None:
        """Read what Redis knows of a session of this user; None while Redis is away."""
        asked = AskedSession(session, user, asyncio.get_running_loop().create_future())
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
        """Read what is known of each session, in this order; None for each while Redis is away."""
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
        for (session, _), answer, each in zip(sessions, found, recalled, strict=True):
            self._note_leaves_of_user(session, answer, each.history)
        if self._told or self._waiting:
            pairs = zip(sessions, recalled, strict=True)
            return [self._with_what_waits(session, each) for (session, _), each in pairs]
        return list(recalled)

    def _note_leaves_of_user(self, session: str, found: "list[Any]", history: RoomHistory) -> None:
        """Write what was noted for the user into what is kept of the session, which may last for
        longer."""
        _, rooms, _, lefts = found
        for each, offset in zip(rooms[::2], lefts, strict=True):
            if not offset:
                continue
            room, change = each.decode(), RoomChange(parse_offset(offset), False)
            if room in history.rooms_at(change.offset):
                history.note(room, change)
                self._waiting.append(Change(session, room, change))
                self._wake.set()

    def _with_what_waits(self, session: str, recalled: Recalled) -> Recalled:
        """Add the changes to a session that are known here and not yet written to Redis."""
        history = recalled.history
        for each in self._waiting:
            if each.session != session:
                continue
            if isinstance(each, Change):
                history.note(each.room, each.change)
                continue
            for room in set(each.rooms) - history.rooms:
                history.note(room, RoomChange(each.offset, True))
                history.known_since = max(history.known_since, each.offset)
        told = self._told.get(session)
        if told is None:
            return recalled
        history.since = told.since
        return recalled._replace(alive=True)

    def _pipeline_of(self, sessions: list[tuple[str, UserId | None]]) -> Any:
        keys = self._keys
        pipeline = self._client.pipeline(transaction=False)
        for session, user in sessions:
            lefts = "" if user is None else keys.left_room(user, "")
            names = [keys.session(session), *self._keys_of(session)]
            pipeline.eval(*_RECALL.given(names, [lefts]))
        # Last: it stands behind all changes of rooms that were found.
        pipeline.eval(*END.given([keys.broadcast], []))
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
            waiting = [self._waiting[i] for i in range(min(len(self._waiting), PIPELINE_SIZE))]
            told = dict(list(self._told.items())[:PIPELINE_SIZE])
            if not waiting and not told:
                return
            pipeline = self._client.pipeline(transaction=False)
            for here, lasts in ((True, self._lives), (False, self._ends)):
                these = {name: each.since for name, each in told.items() if each.here is here}
                if these:
                    sinces = map(format_offset, these.values())
                    names = [self._keys.session(name) for name in these]
                    pipeline.eval(*_KEEP.given(names, [lasts, *sinces]))
            for session, group in itertools.groupby(waiting, key=lambda each: each.session):
                self._write(pipeline, session, list(group))
            await pipeline.execute()
            for session, each in told.items():
                # Unless something else has become true meanwhile.
                if self._told.get(session) is each:
                    del self._told[session]
            for _ in waiting:
                self._waiting.popleft()

    def _write(self, pipeline: Any, session: str, waiting: list[Change | Renewal]) -> None:
        """Add what waits of one session to the pipeline, in order."""
        names, lasts = self._keys_of(session), self._rooms_last
        for is_change, group in itertools.groupby(waiting, key=lambda each: type(each) is Change):
            if is_change:
                changes = [each for each in group if isinstance(each, Change)]
                words = [word for _, room, change in changes for word in (room, _written(change))]
                pipeline.eval(*_CHANGE.given(names, [lasts, *words]))
                continue
            for each in group:
                assert isinstance(each, Renewal)
                if each.anew:
                    pipeline.delete(*names)
                offset = format_offset(each.offset)
                pipeline.eval(*_RENEW.given(names, [lasts, offset, *each.rooms]))

    def _keys_of(self, session: str) -> tuple[str, str]:
        """The keys of the rooms that a session is in, and of those that it has left."""
        return self._keys.session_rooms(session), self._keys.session_left(session)


def _written(change: RoomChange) -> str:
    """Format a change as `storage/lua/include/rooms` takes it."""
    return f"{'+' if change.joins else '-'}{format_offset(change.offset)}"


def _recalled(found: "list[Any]", end: list[bytes]) -> Recalled:
    since, rooms, left, _ = found
    last, generated = (parse_offset(each) for each in end)
    changes = {
        room.decode(): parse_changes(text.decode())
        for held in (rooms, left)
        for room, text in zip(held[::2], held[1::2], strict=True)
        if room
    }
    known_since = dict(zip(left[::2], left[1::2], strict=True)).get(KNOWN_SINCE.encode())
    history = RoomHistory(
        # Beyond the end it is an offset of another stream.
        began if since and (began := parse_offset(since)) <= generated else BEGINNING,
        known_since=parse_offset(known_since) if known_since else BEGINNING,
        rooms=changes,
    )
    return Recalled(since is not None, history, last, generated)

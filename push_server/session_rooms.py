"""The rooms of sessions, kept in Redis for clients that resume on another push server."""

import asyncio
import collections
import contextlib
import logging
from typing import NamedTuple, cast

import redis.asyncio
from redis.exceptions import RedisError

from push_server.connections import Connections
from queue_run.channel.listener import ANSWER_TIMEOUT
from queue_run.keys import Keys

log = logging.getLogger(__name__)

#: Changes written in one round trip, at most.
PIPELINE_SIZE = 200
#: Sessions whose rooms are read in one round trip, at most: all who asked go on in one
#: iteration of the loop.
ASKED_AT_ONCE = 32
#: Seconds before a write is tried again.
PAUSE = 0.5


class Change(NamedTuple):
    session: str
    room: str
    joins: bool


class Asked(NamedTuple):
    """Sessions whose rooms are read in one round trip."""

    sessions: list[str]
    #: One for each, in order.
    answers: "asyncio.Task[list[list[str] | None]]"


class SessionRooms:
    """Writes which rooms the sessions of this server are in, in the background and in order."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        connections: Connections,
        *,
        session_time: float,
    ) -> None:
        self._client = client
        self._keys = keys
        self._connections = connections
        self._session_time = session_time
        # Renewed once per session time: what a session leaves behind lasts long enough.
        self._lasts = round(3000 * session_time)
        self._waiting: collections.deque[Change] = collections.deque()
        self._wake = asyncio.Event()
        #: Those whose rooms are read next.
        self._asked: Asked | None = None

    def changed(self, session: str, room: str, *, joins: bool) -> None:
        """Note a join or a leave."""
        self._waiting.append(Change(session, room, joins))
        self._wake.set()

    async def of(self, session: str) -> list[str] | None:
        """The rooms of a session that this server takes over; None while Redis is away."""
        if self._asked is None or len(self._asked.sessions) == ASKED_AT_ONCE:
            sessions: list[str] = []
            self._asked = Asked(sessions, asyncio.create_task(self._ask(sessions)))
        sessions, answers = self._asked
        number = len(sessions)
        sessions.append(session)
        # Others wait for it too, when this one does not any more.
        return (await asyncio.shield(answers))[number]

    async def _ask(self, sessions: list[str]) -> list[list[str] | None]:
        """The rooms of each; what others ask from now on is another round trip."""
        self._asked = None
        pipeline = self._client.pipeline(transaction=False)
        for session in sessions:
            pipeline.smembers(self._keys.session_rooms(session))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                found = cast("list[set[bytes]]", await pipeline.execute())
        except (RedisError, OSError) as error:
            log.error("the rooms of sessions cannot be read: %s", str(error) or type(error))
            return [None] * len(sessions)
        return [[room.decode() for room in rooms] for rooms in found]

    async def run(self) -> None:
        """Write what changes, and renew what is there, for ever."""
        loop = asyncio.get_running_loop()
        renewal = loop.time() + self._session_time
        while True:
            if not self._waiting:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(renewal):
                        await self._wake.wait()
            # However much changes: what does not change must not expire.
            if loop.time() >= renewal and len(self._waiting) < PIPELINE_SIZE:
                renewal = loop.time() + self._session_time
                self.renew()
            self._wake.clear()
            if self._waiting:
                await self._write_some()

    def renew(self) -> None:
        """Write all rooms anew: Redis may have lost them."""
        self._waiting.extend(
            Change(connection.envelope.session, room, joins=True)
            for connection in self._connections
            if connection.envelope is not None
            for room in connection.rooms
        )
        self._wake.set()

    async def _write_some(self) -> None:
        batch = [self._waiting[i] for i in range(min(len(self._waiting), PIPELINE_SIZE))]
        pipeline = self._client.pipeline(transaction=False)
        for change in batch:
            key = self._keys.session_rooms(change.session)
            (pipeline.sadd if change.joins else pipeline.srem)(key, change.room)
            pipeline.pexpire(key, self._lasts)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("the rooms of sessions wait for Redis: %s", str(error) or type(error))
            await asyncio.sleep(PAUSE)
            return
        for _ in batch:
            self._waiting.popleft()

"""Resuming: what a client missed, then what comes, with nothing twice and nothing missing.

While a client is held, or gets what it missed, messages go into the window only; a client becomes
live in the same step in which the last of them was written.
"""

import asyncio
import enum
import logging
from collections.abc import Awaitable

from push_server.clients.connections import Connection, Connections
from push_server.clients.envelope import Phase, Resume, Session, message_frame
from push_server.clients.sessions import Seals
from push_server.delivery.position import Position, offset_of_client
from push_server.delivery.room_history import BEGINNING, RoomChange, RoomHistory
from push_server.delivery.session_rooms import Recalled, SessionRooms
from push_server.delivery.window import ReturningClient, Window
from queue_run.channel.listener import Offset
from queue_run.logs.complaints import Complaints

log = logging.getLogger(__name__)

#: Seconds in which the first frame of a client says whether it resumes.
HOLD_TIME = 2.0
#: Before any offset that a window holds.
NOWHERE: Offset = (-1, 0)
#: Seconds before the rooms of a session are asked for again.
ROOMS_PAUSE = 0.5
#: Seconds for which this server may be behind what Redis has told of a session.
CATCH_UP = 5.0
#: Messages written before other work of the loop goes on.
MESSAGES_AT_ONCE = 200


class ResumeAnswer(enum.Enum):
    """The answers to a resume, given when the client has what it missed."""

    NONE = enum.auto()
    RESUMED = enum.auto()
    #: It has not had all of it.
    GAP = enum.auto()


class Resumption:
    """Brings the clients of this server from held to live."""

    def __init__(
        self,
        window: Window,
        position: Position,
        connections: Connections,
        rooms: SessionRooms,
        seals: Seals,
    ) -> None:
        self.seals = seals
        self._window = window
        self._complaints = Complaints(log)
        self._position = position
        self._connections = connections
        self._rooms = rooms
        self._holding: dict[Connection, asyncio.TimerHandle] = {}
        self._replays: set[asyncio.Task[None]] = set()

    def hold(self, connection: Connection) -> None:
        """Keep messages back until the client has said whether it resumes."""
        loop = asyncio.get_running_loop()
        self._holding[connection] = loop.call_later(HOLD_TIME, self.start, connection)

    def closed(self, connection: Connection) -> None:
        """Note that a connection has ended; its session can still be resumed for some time."""
        timer = self._holding.pop(connection, None)
        if timer is not None:
            timer.cancel()
        self._rooms.closed(connection)

    def start(self, connection: Connection) -> None:
        """Let messages go to a client that resumes nothing; harmless where they go already."""
        if self._release(connection):
            self._replay(connection, self._begin(connection), answer=ResumeAnswer.NONE)

    def _begin(self, connection: Connection) -> RoomHistory:
        """Note that a session has begun with its connection; it was in no room before."""
        state = _state(connection)
        self._rooms.opened(state.id, state.since)
        return RoomHistory(state.since)

    def resume(self, connection: Connection, asked: Resume) -> Awaitable[None] | None:
        """Let a client go on where it was, or tell it that this cannot be.

        The result, if there is one, is awaited before more is read: until then it is not known
        which session the client has.
        """
        late = not self._release(connection)
        session = asked.session
        if session is not None and not self.seals.made(session, connection.user_id):
            self._complaints.tell(str(connection), "%s: resumes an unknown session", connection)
            session = None
        offset = offset_of_client(asked.offset)
        if session is None and not late and (offset is None or offset <= self._position.offset):
            # Redis knows nothing of it that is not known here.
            history = self._begin(connection)
            offset = self._resumable(asked, self._position.offset, history)
            self._answer(connection, offset, history)
            return None
        decided = connection.pause()
        self._run(connection, self._decide(connection, asked, session, late=late))
        return decided

    async def _decide(
        self, connection: Connection, asked: Resume, session: str | None, *, late: bool
    ) -> None:
        state = _state(connection)
        try:
            recalled = await self._recall(connection, session or state.id)
            if recalled is None:
                return
            history = recalled.history
            ended = session is None or not self._take_over(connection, session, recalled)
            left_rooms = session is not None and ended and not history.is_empty
            if ended:
                history = self._begin(connection)
            else:
                self._rooms.opened(state.id, state.since)
            # Its rooms are those of then: what changed them is to be seen in the window, too.
            await self._position.reach(recalled.last, seconds=CATCH_UP)
        finally:
            connection.read_on()
        if connection.closing:
            return
        if late:
            self._complaints.tell(str(connection), "%s: a resume that came too late", connection)
            if not ended:
                self._be_in(connection, history, *self._window.rooms(_client(connection, history)))
            self._tell_gap(connection)
        else:
            offset = self._resumable(asked, recalled.generated, history)
            self._answer(connection, offset, history, left_rooms=left_rooms)

    async def _recall(self, connection: Connection, session: str) -> Recalled | None:
        """Read what Redis knows of a session, as soon as it answers; None when the client has gone
        meanwhile."""
        # Without its rooms the client would miss messages and not know it. While Redis is away,
        # nothing new comes for the client either.
        while True:
            recalled = await self._rooms.of(session, connection.user_id)
            if connection.closing:
                return None
            if recalled is not None:
                return recalled
            await asyncio.sleep(ROOMS_PAUSE)

    def _take_over(self, connection: Connection, session: str, recalled: Recalled) -> bool:
        """Go on with a session that lives; False for one that is over."""
        here = self._connections.of_session(session)
        if not recalled.alive and here is None:
            return False
        if here is not None:
            recalled.history.since = _state(here).since
        self._connections.take_over(connection, session, recalled.history.since)
        for room in recalled.history.rooms:
            self._connections.join(connection, room)
        return True

    def _answer(
        self,
        connection: Connection,
        offset: Offset | None,
        history: RoomHistory,
        *,
        left_rooms: bool = False,
    ) -> None:
        """Write what the client missed after this offset; None tells it of a gap.

        Args:
            left_rooms: the client was in rooms, and is not any more: messages to them are missing.
        """
        if offset is not None:
            _state(connection).offset = offset
        else:
            self._be_in(connection, history, *self._window.rooms(_client(connection, history)))
        answer = ResumeAnswer.GAP if left_rooms else ResumeAnswer.RESUMED
        self._replay(connection, history, answer=answer, gap=offset is None)

    def tell_gap_to_all(self, *, anew: bool = False) -> None:
        """Tell every client of a gap, since this server has missed messages.

        A client that is not live yet is told when its turn comes.

        Args:
            anew: offsets have begun anew: earlier ones mean nothing any more.
        """
        self._window.clear(self._position.begun)
        for connection in self._connections:
            state = connection.session
            if state is None or connection.closing:
                continue
            if anew:
                state.since = BEGINNING
            if state.phase is Phase.LIVE:
                self._tell_gap(connection)
            else:
                # No gap for a client that resumes at an offset which the window holds.
                state.offset = NOWHERE

    def _release(self, connection: Connection) -> bool:
        """End the hold; False when it had ended."""
        timer = self._holding.pop(connection, None)
        if timer is None:
            return False
        timer.cancel()
        _state(connection).phase = Phase.REPLAYING
        return True

    def _resumable(self, asked: Resume, end: Offset, history: RoomHistory) -> Offset | None:
        """Find the offset behind which the client can go on; None when it cannot.

        Args:
            end: the last offset that there has been; one beyond it is of another stream, whatever
                its epoch.
        """
        offset = offset_of_client(asked.offset)
        if offset is None or offset > end or asked.epoch != self._position.epoch:
            return None
        return offset if self._window.holds(offset) and history.tells(offset) else None

    def _replay(
        self,
        connection: Connection,
        history: RoomHistory,
        *,
        answer: ResumeAnswer,
        gap: bool = False,
    ) -> None:
        """Write what the client missed, as far as it takes it at once, and go on when it has.

        Args:
            answer: what the client is told when it has all.
            gap: the client cannot have all that it missed, and becomes live at once.
        """
        state = _state(connection)
        gap = gap or not self._window.holds(state.offset)
        if not gap and self._write_missed(connection, state, history):
            self._run(connection, self._replay_on(connection, history, answer=answer))
            return
        state.phase = Phase.LIVE
        if gap:
            self._tell_gap(connection)
        else:
            # What is being written now stood in the window.
            state.offset = max(state.offset, self._position.begun)
            if answer is ResumeAnswer.RESUMED:
                connection.write(state.resumed())
            elif answer is ResumeAnswer.GAP:
                connection.write(state.gap(self._position.epoch))
        for frame in state.held_frames:
            connection.write(frame)
        state.held_frames.clear()

    def _write_missed(self, connection: Connection, state: Session, history: RoomHistory) -> bool:
        """Write what the client missed, up to what it takes now.

        Returns:
            Whether the client must take some of it before more is written.
        """
        missed = self._window.missed(_client(connection, history), state.offset)
        self._be_in(connection, history, missed.rooms, missed.changes)
        for number, (offset, message) in enumerate(missed.messages, start=1):
            connection.write(message_frame(message, offset))
            state.offset = offset
            if connection.transport.jammed or number == MESSAGES_AT_ONCE:
                return number < len(missed.messages) or connection.transport.jammed
        return False

    def _be_in(
        self,
        connection: Connection,
        history: RoomHistory,
        rooms: set[str],
        changes: list[tuple[str, RoomChange]],
    ) -> None:
        """Put the connection into these rooms, to which these changes have led. Changes that were
        not known go to Redis, too."""
        for room in rooms - connection.rooms:
            self._connections.join(connection, room)
        for room in connection.rooms - rooms:
            self._connections.leave(connection, room)
        session = _state(connection).id
        for room, change in changes:
            if history.note(room, change):
                self._rooms.changed(session, room, joins=change.joins, offset=change.offset)

    async def _replay_on(
        self, connection: Connection, history: RoomHistory, *, answer: ResumeAnswer
    ) -> None:
        await connection.transport.unjammed()
        await asyncio.sleep(0)
        if not connection.closing:
            self._replay(connection, history, answer=answer)

    def _tell_gap(self, connection: Connection) -> None:
        state = _state(connection)
        # What is being written now may have reached the client, or not.
        state.offset = self._position.begun
        connection.write(state.gap(self._position.epoch))

    def _run(self, connection: Connection, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._replays.add(task)
        task.add_done_callback(lambda done: self._replayed(connection, done))

    def _replayed(self, connection: Connection, task: "asyncio.Task[None]") -> None:
        self._replays.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # The client would wait for ever; now it connects and resumes once more.
            log.error("%s: could not be resumed", connection, exc_info=task.exception())
            connection.transport.abort("could not be resumed")


def _client(connection: Connection, history: RoomHistory) -> ReturningClient:
    return ReturningClient(_state(connection).id, connection.user_id, history)


def _state(connection: Connection) -> Session:
    assert connection.session is not None
    return connection.session

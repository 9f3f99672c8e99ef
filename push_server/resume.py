"""Resuming: what a client missed, then what comes, with nothing twice and nothing missing.

While a client is held, or gets what it missed, messages go into the window only; a client becomes
live in the same step in which the last of them was written.
"""

import asyncio
import logging

from push_server.connections import Connection, Connections
from push_server.protocols.envelope import Envelope, Phase, Resume, message_frame
from push_server.session_rooms import SessionRooms
from push_server.sessions import Seals
from push_server.window import Client, Window
from queue_run.channel.listener import Offset, parse_offset
from queue_run.complaints import Complaints

log = logging.getLogger(__name__)

#: Seconds in which the first frame of a client says whether it resumes.
HOLD_TIME = 2.0
#: Before any offset that a window holds.
NOWHERE: Offset = (-1, 0)
#: Seconds before the rooms of a session are asked for again.
ROOMS_PAUSE = 0.5
#: Messages written before other work of the loop goes on.
MESSAGES_AT_ONCE = 200


class Position:
    """How far the broadcast stream has been delivered, and which stream that is."""

    def __init__(self) -> None:
        #: Everything up to here has been written to whom it is for.
        self.offset: Offset = (0, 0)
        #: The entry that is being written, or was last.
        self.begun: Offset = (0, 0)
        #: Changes when Redis has lost the stream.
        self.epoch = ""

    @property
    def delivering(self) -> bool:
        """Whether some clients have had more than others."""
        return self.begun != self.offset

    def move(self, offset: Offset) -> None:
        """Go on from here."""
        self.offset = self.begun = offset


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

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        timer = self._holding.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def start(self, connection: Connection) -> None:
        """Let messages go to a client that resumes nothing; harmless to one that gets them."""
        if self._release(connection):
            self._replay(connection, answer=False)

    def resume(self, connection: Connection, asked: Resume) -> None:
        """Let a client go on where it was, or tell it that this cannot be."""
        envelope = _envelope(connection)
        first = self._release(connection)
        session = asked.session
        if session is not None and self.seals.made(session, connection.user_id):
            self._connections.take_over(connection, session)
        if not first:
            self._complaints.tell(str(connection), "%s: a resume that came too late", connection)
            self._tell_gap(connection)
            return
        offset = self._resumable(asked)
        if offset is not None:
            envelope.offset = offset
        if session is not None and envelope.session == session:
            self._run(connection, self._replay_with_rooms(connection, gap=offset is None))
        else:
            self._replay(connection, answer=True, gap=offset is None)

    def tell_gap_to_all(self) -> None:
        """This server has missed messages: what it holds is not all."""
        self._window.clear(self._position.begun)
        for connection in self._connections:
            envelope = connection.envelope
            if envelope is None or connection.closing:
                continue
            if envelope.phase is Phase.LIVE:
                self._tell_gap(connection)
            else:
                # It is told when it is its turn, unless it resumes at an offset that is held.
                envelope.offset = NOWHERE

    def _release(self, connection: Connection) -> bool:
        """End the hold; False when it had ended."""
        timer = self._holding.pop(connection, None)
        if timer is None:
            return False
        timer.cancel()
        _envelope(connection).phase = Phase.REPLAYING
        return True

    def _resumable(self, asked: Resume) -> Offset | None:
        if asked.epoch != self._position.epoch:
            return None
        try:
            offset = parse_offset(asked.offset)
        except ValueError:
            return None
        return offset if self._window.holds(offset) else None

    async def _replay_with_rooms(self, connection: Connection, *, gap: bool) -> None:
        # Without its rooms it would miss messages and not know it; while Redis is away, nothing new
        # comes for it either.
        while (rooms := await self._rooms.of(_envelope(connection).session)) is None:
            if connection.closing:
                return
            await asyncio.sleep(ROOMS_PAUSE)
        for room in rooms:
            self._connections.join(connection, room)
        if not connection.closing:
            self._replay(connection, answer=True, gap=gap)

    def _replay(self, connection: Connection, *, answer: bool, gap: bool = False) -> None:
        """Write what the client missed, as far as it takes it at once, and go on when it has.

        Args:
            answer: tell the client when it has all.
            gap: it cannot have all; it is live at once.
        """
        envelope = _envelope(connection)
        gap = gap or not self._window.holds(envelope.offset)
        if not gap and self._write_missed(connection, envelope):
            self._run(connection, self._replay_on(connection, answer=answer))
            return
        envelope.phase = Phase.LIVE
        if gap:
            self._be_in(connection, self._window.rooms(_client(connection)))
            self._tell_gap(connection)
        else:
            # What is being written now stood in the window.
            envelope.offset = max(envelope.offset, self._position.begun)
            if answer:
                connection.write(envelope.resumed())
        for frame in envelope.held_frames:
            connection.write(frame)
        envelope.held_frames.clear()

    def _write_missed(self, connection: Connection, envelope: Envelope) -> bool:
        """Whether the client must take some of it before there can be more."""
        missed = self._window.missed(_client(connection), envelope.offset)
        self._be_in(connection, missed.rooms)
        for number, (offset, message) in enumerate(missed.messages, start=1):
            connection.write(message_frame(message, offset))
            envelope.offset = offset
            if connection.transport.jammed or number == MESSAGES_AT_ONCE:
                return number < len(missed.messages) or connection.transport.jammed
        return False

    def _be_in(self, connection: Connection, rooms: set[str]) -> None:
        for room in rooms - connection.rooms:
            self._connections.join(connection, room)
        for room in connection.rooms - rooms:
            self._connections.leave(connection, room)

    async def _replay_on(self, connection: Connection, *, answer: bool) -> None:
        await connection.transport.drained()
        await asyncio.sleep(0)
        if not connection.closing:
            self._replay(connection, answer=answer)

    def _tell_gap(self, connection: Connection) -> None:
        envelope = _envelope(connection)
        # What is being written now may have reached the client, or not.
        envelope.offset = self._position.begun
        connection.write(envelope.gap(self._position.epoch))

    def _run(self, connection: Connection, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._replays.add(task)
        task.add_done_callback(lambda done: self._replayed(connection, done))

    def _replayed(self, connection: Connection, task: "asyncio.Task[None]") -> None:
        self._replays.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # It would wait for ever; its client resumes once more.
            log.error("%s: could not be resumed", connection, exc_info=task.exception())
            connection.transport.abort("could not be resumed")


def _client(connection: Connection) -> Client:
    return Client(_envelope(connection).session, connection.user_id, connection.rooms)


def _envelope(connection: Connection) -> Envelope:
    assert connection.envelope is not None
    return connection.envelope

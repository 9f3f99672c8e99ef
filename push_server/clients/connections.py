"""The registry of connections: the only place that knows connections and their users.

Pure: plain dicts and sets, no Tornado. Adding and removing keep both directions of the index.
Removing twice is harmless.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

import msgspec

from push_server.clients.envelope import Phase, Session
from push_server.clients.lanes import Lane
from push_server.clients.plain import PLAIN, Plain
from queue_run.channel.listener import Offset
from queue_run.contracts.ids import ConnectionId, RequestId, ServerId, UserId


class Transport(Protocol):
    """The socket of a connection, as far as the connection uses it."""

    @property
    def address(self) -> str:
        """The network address of the client."""

    def write(self, frame: bytes) -> None:
        """Send a whole frame, or drop the connection when its client is too far behind."""

    @property
    def jammed(self) -> bool:
        """True while bytes wait that the kernel did not take."""

    async def unjammed(self) -> None:
        """Wait until no bytes wait any more, or the connection has ended."""

    def ping(self) -> None:
        """Send a ping frame."""

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""

    def abort(self, why: str) -> None:
        """Drop the connection at once."""


class Connection:
    """One open WebSocket."""

    __slots__ = (
        "_paused",
        "_requests",
        "_rooms",
        "_unordered",
        "asked",
        "closing",
        "corked",
        "heard",
        "id",
        "lane",
        "path",
        "query",
        "session",
        "slot",
        "transport",
        "user",
        "user_id",
    )

    def __init__(
        self,
        connection_id: ConnectionId,
        transport: Transport,
        lane: Lane,
        *,
        path: str,
        query: str,
        user: msgspec.Raw,
        user_id: UserId | None,
        session: Session | None = None,
    ) -> None:
        self.id = connection_id
        self.transport = transport
        self.lane = lane
        #: The state of the envelope protocol, for a client that speaks it.
        self.session = session
        self.path = path
        self.query = query
        #: What `on_authenticate` returned, as JSON.
        self.user = user
        self.user_id = user_id
        #: Whether its client has been heard since the last ping.
        self.heard = True
        #: For liveness: which pings are its own, and since when an answer is due.
        self.slot: int | None = None
        self.asked: int | None = None
        #: Whether the closing handshake has begun: nothing is read or sent any more.
        self.closing = False
        #: What is written while it is corked, to leave in one piece; None while it is not.
        self.corked: list[bytes] | None = None
        self._requests = 0
        self._paused: asyncio.Future[None] | None = None
        # Made when they are first needed: most connections only wait, and there are many.
        self._unordered: set[RequestId] | None = None
        self._rooms: set[str] | None = None

    @property
    def protocol(self) -> Plain | Session:
        return self.session or PLAIN

    @property
    def unordered(self) -> set[RequestId]:
        """Requests in flight that keep no order."""
        if self._unordered is None:
            self._unordered = set()
        return self._unordered

    @property
    def rooms(self) -> set[str]:
        """The rooms that the connection is in."""
        if self._rooms is None:
            self._rooms = set()
        return self._rooms

    def next_request_id(self) -> RequestId:
        self._requests += 1
        return RequestId(f"{self.id}-{self._requests}")

    @property
    def idle(self) -> bool:
        """True while no request of this connection waits for a worker or for its outcome."""
        return self.lane.idle and not self._unordered

    @property
    def paused(self) -> bool:
        """True while nothing is read from the client."""
        return self._paused is not None

    def pause(self) -> "asyncio.Future[None]":
        """Stop reading from the client; the reader awaits the result before it reads on."""
        if self._paused is None:
            self._paused = asyncio.get_running_loop().create_future()
        return self._paused

    def read_on(self) -> None:
        """End the pause, if there is one."""
        if self._paused is not None:
            if not self._paused.done():
                self._paused.set_result(None)
            self._paused = None
            # What its client has sent meanwhile has not been read yet.
            self.heard = True

    def write(self, frame: bytes) -> None:
        """Send a frame, but none after the close frame (RFC 6455, 5.5.1)."""
        if self.closing:
            return
        if self.corked is not None:
            self.corked.append(frame)
        else:
            self.transport.write(frame)

    def cork(self) -> None:
        """Keep back what is written from now on, until it is uncorked."""
        if self.corked is None:
            self.corked = []

    def uncork(self) -> None:
        """Send what was kept back, in one piece: many frames cost no more than one."""
        frames, self.corked = self.corked, None
        if frames and not self.closing:
            self.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def answer(self, frame: bytes) -> None:
        """Send the answer to a request, behind what its client has missed."""
        if self.session is not None and self.session.phase is not Phase.LIVE:
            self.session.held_frames.append(frame)
        else:
            self.write(frame)

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake, once."""
        if not self.closing:
            self.uncork()
            self.closing = True
            self.transport.close(code, reason)
            # The client's own close frame must be read.
            self.read_on()

    def __str__(self) -> str:
        return f"{self.id} (user {self.user_id})" if self.user_id else self.id


class UserObserver(Protocol):
    """Something that is called when a user arrives at this push server or leaves it."""

    def arrived(self, user: UserId) -> None:
        """Note that the user's first connection to this push server is open."""

    def left(self, user: UserId) -> None:
        """Note that the user's last connection to this push server has ended."""


class Connections:
    """All connections of this push server."""

    def __init__(self, server: ServerId, observer: UserObserver | None = None) -> None:
        self._server = server
        self._observer = observer
        self._numbers = itertools.count(1)
        self._by_id: dict[ConnectionId, Connection] = {}
        self._by_user: dict[UserId, set[Connection]] = {}
        self._by_room: dict[str, set[Connection]] = {}
        #: A session that was taken over has two connections until the older one is seen to be gone.
        self._by_session: dict[str, Connection] = {}
        self._emptied: asyncio.Event | None = None

    def new_id(self) -> ConnectionId:
        return ConnectionId(f"{self._server}-{next(self._numbers)}")

    def add(self, connection: Connection) -> None:
        self._by_id[connection.id] = connection
        if connection.session is not None:
            self._by_session[connection.session.id] = connection
        if connection.user_id is not None:
            self._add_to_user(connection, connection.user_id)

    def _add_to_user(self, connection: Connection, user: UserId) -> None:
        if user not in self._by_user:
            self._by_user[user] = set()
            if self._observer is not None:
                self._observer.arrived(user)
        self._by_user[user].add(connection)

    def remove(self, connection: Connection) -> None:
        if self._by_id.pop(connection.id, None) is None:
            return
        if not self._by_id and self._emptied is not None:
            self._emptied.set()
        for room in list(connection.rooms):
            self.leave(connection, room)
        self._leave_session(connection)
        if connection.user_id is None:
            return
        others = self._by_user[connection.user_id]
        others.discard(connection)
        if not others:
            del self._by_user[connection.user_id]
            if self._observer is not None:
                self._observer.left(connection.user_id)

    async def wait_until_empty(self, seconds: float) -> None:
        """Return when the last connection is gone, or after so many seconds."""
        self._emptied = asyncio.Event()
        if self._by_id:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._emptied.wait()

    def take_over(self, connection: Connection, session: str, since: Offset) -> None:
        """Give a session, which began at an offset, to a connection that has one of its own until
        now."""
        assert connection.session is not None
        self._leave_session(connection)
        connection.session.id = session
        connection.session.since = since
        self._by_session[session] = connection

    def _leave_session(self, connection: Connection) -> None:
        state = connection.session
        if state is not None and self._by_session.get(state.id) is connection:
            del self._by_session[state.id]

    def of_session(self, session: str) -> Connection | None:
        """The connection that has the session now."""
        return self._by_session.get(session)

    def get(self, connection: ConnectionId) -> Connection | None:
        return self._by_id.get(connection)

    def of_user(self, user: UserId) -> Collection[Connection]:
        return self._by_user.get(user, ())

    def join(self, connection: Connection, room: str) -> None:
        """Add the connection to a room; to join twice is harmless."""
        if connection.id in self._by_id:
            self._by_room.setdefault(room, set()).add(connection)
            connection.rooms.add(room)

    def leave(self, connection: Connection, room: str) -> None:
        """Take the connection out of a room; to leave twice is harmless."""
        connection.rooms.discard(room)
        members = self._by_room.get(room)
        if members is not None:
            members.discard(connection)
            if not members:
                del self._by_room[room]

    def of_room(self, room: str) -> list[Connection]:
        """A snapshot of a room's connections."""
        return list(self._by_room.get(room, ()))

    def of_users(self, users: Iterable[UserId]) -> list[Connection]:
        """A snapshot: sending to it may remove connections."""
        found: list[Connection] = []
        for user in users:
            found += self._by_user.get(user, ())
        return found

    def __iter__(self) -> Iterator[Connection]:
        """A snapshot of all connections."""
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

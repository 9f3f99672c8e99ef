"""Who gets what, whatever happens: random joins, leaves, messages, lost sockets, resumes, and push
servers that are killed, against the simplest thing that could be right.

The hubs, windows, resumes and records of sessions are real, and so is Redis with its scripts. Only
sockets and the listener's loop are the test's own, so that thousands of turns take seconds.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple, TypeGuard

import pytest
import redis.asyncio

from push_server.clients.connections import Connection, Connections
from push_server.clients.envelope import Resume, Session
from push_server.delivery.hub import Hub
from push_server.delivery.resume import Resumption
from push_server.delivery.session_rooms import SessionRooms
from push_server.delivery.window import Window
from queue_run.channel.listener import Entry, Offset, format_offset, parse_offset
from queue_run.channel.memberships import noted
from queue_run.contracts.envelopes import (
    ChannelEnvelope,
    Membership,
    ToConnection,
    ToRoom,
    ToUsers,
    encode,
)
from queue_run.contracts.ids import ConnectionId, ServerId, UserId
from queue_run.contracts.keys import Keys
from queue_run.contracts.messages import Form, Message
from tests.processes import RedisServer
from tests.unit.push_server.building import SEALS, Client, push_server
from tests.unit.recorders import RecordingTransport
from tests.waiting import DEADLINE

#: More of them with `QUEUE_RUN_TEST_CASES=2000`.
CASES = int(os.environ.get("QUEUE_RUN_TEST_CASES", "24"))
TURNS = 150
USERS = [UserId("ann"), UserId("bob"), None]
ROOMS = ["hall", "kitchen", "cellar", "garden"]
SESSION_TIME, WINDOW_TIME = 60.0, 300.0
#: Entries that a small window holds, about.
SMALL = 25


class Sent(NamedTuple):
    offset: Offset
    envelope: ChannelEnvelope


class Known(NamedTuple):
    """In which rooms somebody is at an offset."""

    offset: Offset
    rooms: frozenset[str]


class Server:
    """A push server that reads the stream when it is told to, and dies when it is told to."""

    def __init__(self, world: "World", parts: Any) -> None:
        self.world = world
        self.parts = parts
        self.epoch = parts.position.epoch
        window_bytes = SMALL * 900 if world.small else 10**9
        parts.window = Window(max_age=1e6, max_bytes=window_bytes, max_rooms=world.max_rooms)
        parts.connections = Connections(ServerId(f"s{world.chance.random()}"))
        self.rooms = SessionRooms(
            world.redis,
            world.keys,
            parts.connections,
            parts.position,
            session_time=SESSION_TIME,
            window_time=WINDOW_TIME,
        )
        self.resumption = parts.resumption = Resumption(
            parts.window, parts.position, parts.connections, self.rooms, SEALS
        )
        self.hub = Hub(
            parts.connections,
            parts.forwarder,
            broadcast=world.keys.broadcast,
            position=parts.position,
            window=parts.window,
            session_rooms=self.rooms,
            trimming=parts.trimming,
            max_rooms=world.max_rooms,
        )
        self.read = 0
        # It has filled its window from Redis; of a small one it has the end.
        for sent in world.sent:
            self.hub.prime(self._entry(sent))
            self.read += 1
            parts.position.move(sent.offset)

    def _entry(self, sent: Sent) -> Entry:
        return Entry(self.world.keys.broadcast, sent.offset, encode(sent.envelope))

    async def read_some(self, count: int) -> None:
        batch = [self._entry(each) for each in self.world.sent[self.read : self.read + count]]
        self.read += len(batch)
        if batch:
            waiting = self.hub.deliver(batch)
            if waiting is not None:
                await waiting

    async def write(self) -> None:
        await self.rooms.close()


class Person:
    """A client with its session, what it has got, and what it was to get."""

    def __init__(self, world: "World", user: UserId | None, number: int) -> None:
        self.world = world
        self.user = user
        self.number = number
        self.server: Server | None = None
        self.client: Client | None = None
        self.session = ""
        #: How far it is, by what it has taken of its frames.
        self.offset: Offset = (0, 0)
        self.taken = 0
        #: Where its session began, and its rooms there.
        self.began = Known((0, 0), frozenset())
        #: The same, or what it was in after a gap.
        self.known = self.began

    @property
    def connection(self) -> Connection:
        assert self.client is not None
        return self.client.connection

    def connect(self, server: Server) -> Session:
        parts = server.parts
        transport = RecordingTransport()
        self.client = parts.connect_enveloped(user=self.user, live=False)
        self.client.transport = transport
        self.client.connection.transport = transport
        self.server = server
        self.taken = 0
        envelope = self.client.connection.session
        assert isinstance(envelope, Session)
        return envelope

    async def start(self, server: Server) -> None:
        session = self.connect(server)
        self.session, self.offset = session.id, session.offset
        self.known = self.began = Known(session.since, frozenset())
        server.resumption.start(self.connection)
        # Its first request writes this, before anything can join.
        await server.write()

    async def resume(self, server: Server) -> None:
        """Come back, and take everything up to the answer."""
        world, away_since = self.world, self.offset
        self.connect(server)
        transport = self.connection.transport
        assert isinstance(transport, RecordingTransport)
        if world.chance.random() < 0.3:
            transport.room = world.chance.randint(1, 3)
        server.resumption.resume(
            self.connection,
            Resume(self.session, format_offset(self.offset), server.parts.position.epoch),
        )
        async with asyncio.timeout(DEADLINE):
            while not (answer := self.take()):
                kind = world.chance.random()
                if kind < 0.2:
                    await world.send_something()
                elif kind < 0.6:
                    await server.read_some(world.chance.randint(1, 4))
                else:
                    transport.drain(world.chance.choice([1, 2, None]))
                    await asyncio.sleep(0)
        transport.drain(None)
        assert answer["session"] == self.session, "a session that lives is taken over"
        if answer["type"] == "gap":
            world.gaps += 1
            self.check_rooms(away_since)
        else:
            world.resumed += 1

    def check_rooms(self, away_since: Offset) -> None:
        """After a gap it is in its rooms; only a join of all of a user's connections while it was
        away may be forgotten."""
        assert self.server is not None
        assert self.server.parts.position.begun == self.offset
        real, may = self.connection.rooms, self.world.rooms_at(self, self.began, self.offset)
        assert real <= may, f"back in {real - may}"
        for room in self.world.rooms_at(self, self.known, self.offset) - real:
            *_, (offset, change) = (
                (sent.offset, sent.envelope)
                for sent in self.world.sent
                if _changes(sent.envelope, self)
                and sent.envelope.room == room
                and sent.offset <= self.offset
            )
            assert change.users, f"not in {room}"
            assert offset > away_since, f"not in {room}"
        self.known = Known(self.offset, frozenset(real))

    def take(self) -> dict[str, Any] | None:
        """Look at the frames that have come; the answer to a resume ends it."""
        assert self.client is not None
        for frame in self.client.told[self.taken :]:
            self.taken += 1
            if "offset" not in frame:
                continue
            offset = parse_offset(frame["offset"])
            if frame["type"] == "message":
                # What a gap let be forgotten may be remembered by another push server.
                allowed = self.world.due(self, self.began, offset)
                assert (frame["data"], offset) in allowed, f"misdelivered: {frame}"
                self.owes_nothing((offset[0], offset[1] - 1))
                self.offset = offset
                continue
            if frame["type"] == "resumed":
                self.owes_nothing(offset)
            self.offset = max(self.offset, offset)
            return frame  # type: ignore[no-any-return]
        return None

    def owes_nothing(self, until: Offset) -> None:
        """All that was due up to here has come."""
        due = self.world.due(self, self.known, until)
        assert not due, f"lost in silence: {due} up to {until}"

    def lose(self) -> None:
        """The socket breaks; what it had not read yet is lost with it."""
        assert self.server is not None
        self.server.resumption.closed(self.connection)
        self.server.parts.connections.remove(self.connection)
        self.connection.closing = True
        self.server = self.client = None


class World:
    """Redis, the stream, the push servers and the people."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, seed: int) -> None:
        self.chance = random.Random(seed)
        self.redis = client
        self.keys = keys
        #: Whether windows hold little, so that clients are told of gaps.
        self.small = seed % 3 == 2
        # A gap lets a join of a user be forgotten; then there is room for another one.
        self.max_rooms = len(ROOMS) if self.small else len(ROOMS) - 1
        self.sent: list[Sent] = []
        self.servers: list[Server] = []
        self.people: list[Person] = []
        self.gaps = self.resumed = 0

    # The simplest thing that could be right

    def rooms_after(self, who: Person, known: Known) -> Iterator[tuple[Sent, frozenset[str]]]:
        """In which rooms somebody is to be after each entry."""
        rooms = known.rooms
        for sent in self.sent:
            change = sent.envelope
            if sent.offset > known.offset and _changes(change, who):
                if not change.joins:
                    rooms = rooms - {change.room}
                elif len(rooms) < self.max_rooms:
                    rooms = rooms | {change.room}
            yield sent, rooms

    def rooms_at(self, who: Person, known: Known, offset: Offset) -> frozenset[str]:
        found = known.rooms
        for sent, rooms in self.rooms_after(who, known):
            if sent.offset <= offset:
                found = rooms
        return found

    def due(self, who: Person, known: Known, until: Offset) -> list[tuple[int, Offset]]:
        """What somebody is to get of what was sent after what it has had, up to an offset."""
        found = []
        for (offset, envelope), rooms in self.rooms_after(who, known):
            if not who.offset < offset <= until:
                continue
            match envelope:
                case ToUsers() if who.user in envelope.users:
                    found.append((_number(envelope.message), offset))
                case ToConnection() if envelope.session == who.session:
                    found.append((_number(envelope.message), offset))
                case ToRoom() if envelope.room in rooms and envelope.without_session != who.session:
                    found.append((_number(envelope.message), offset))
        return found

    # What happens

    async def send(self, envelope: ChannelEnvelope) -> None:
        append = ("XADD", self.keys.broadcast, "*", "e", encode(envelope))
        note = None
        if isinstance(envelope, Membership):
            note = noted(
                envelope,
                self.keys,
                session_time=SESSION_TIME,
                window_time=WINDOW_TIME,
                max_rooms=self.max_rooms,
            )
        command = note.command(append) if note else append
        offset = await self.redis.execute_command(*command)  # type: ignore[no-untyped-call]
        self.sent.append(Sent(parse_offset(offset), envelope))

    async def send_something(self) -> None:
        chance, number = self.chance, len(self.sent)
        message = Message(Form.JSON, str(number).encode())
        who, room, kind = chance.choice(self.people), chance.choice(ROOMS), chance.random()
        if kind < 0.35:
            spared = who.session if chance.random() < 0.2 else None
            await self.send(ToRoom(room=room, message=message, without_session=spared))
        elif kind < 0.45 and who.user is not None:
            await self.send(ToUsers(users=[who.user], message=message))
        elif kind < 0.5:
            await self.send(
                ToConnection(connection=ConnectionId("x"), session=who.session, message=message)
            )
        else:
            joins = chance.random() < 0.55
            if who.user is None or chance.random() < 0.5:
                change = Membership(room=room, joins=joins, session=who.session)
            else:
                change = Membership(room=room, joins=joins, users=[who.user])
            await self.send(change)

    async def turn(self) -> None:
        chance = self.chance
        kind, who = chance.random(), chance.choice(self.people)
        for server in self.servers:
            # A record that waits for longer than a moment is one of a Redis that is away.
            if len(server.rooms._waiting) > 3 or chance.random() < 0.5:
                await server.write()
        if kind < 0.55:
            await self.send_something()
        elif kind < 0.8:
            await chance.choice(self.servers).read_some(chance.randint(1, 6))
        elif kind < 0.83:
            await self.kill(chance.choice(self.servers))
        elif who.server is not None:
            if chance.random() < 0.6:
                who.take()
            who.lose()
        elif chance.random() < 0.2:
            await who.start(chance.choice(self.servers))
        else:
            await who.resume(chance.choice(self.servers))

    async def kill(self, server: Server) -> None:
        """Nothing that it has not written yet is written: others hold it. A small window does so
        for less time than a write takes only where turns take no time, as here."""
        if self.small:
            await server.write()
        for person in self.people:
            if person.server is server:
                if self.chance.random() < 0.5:
                    person.take()
                person.server = person.client = None
        self.servers.remove(server)
        self.servers.append(await self.new_server())

    async def new_server(self) -> Server:
        return Server(self, await push_server(max_rooms=self.max_rooms))

    async def run(self) -> None:
        self.servers = [await self.new_server() for _ in range(3)]
        for number, user in enumerate([*USERS, USERS[0]]):
            person = Person(self, user, number)
            self.people.append(person)
            await person.start(self.chance.choice(self.servers))
        for _ in range(TURNS):
            await self.turn()
        for person in self.people:
            if person.server is None:
                await person.resume(self.chance.choice(self.servers))
        for server in self.servers:
            await server.read_some(10**6)
        for person in self.people:
            person.take()
            if self.sent:
                person.owes_nothing(self.sent[-1].offset)


def _changes(envelope: ChannelEnvelope, who: Person) -> TypeGuard[Membership]:
    """Whether it is a join or a leave of somebody."""
    return isinstance(envelope, Membership) and (
        envelope.session == who.session or who.user in envelope.users
    )


def _number(message: Message) -> int:
    return int(message.data)


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    made = redis.asyncio.Redis.from_url(redis_server.url, socket_timeout=None)
    yield made
    await made.aclose()


async def test_nobody_gets_what_is_not_theirs_and_nothing_is_lost_in_silence(
    client: redis.asyncio.Redis, namespace: str
) -> None:
    gaps = resumed = 0
    for seed in range(CASES):
        world = World(client, Keys(f"{namespace}-{seed}"), seed)
        try:
            await world.run()
        except BaseException as error:
            error.add_note(f"seed {seed}, small window: {world.small}")
            raise
        if not world.small:
            gaps += world.gaps
            resumed += world.resumed
    # Where everything is held, hardly anybody is told of a gap without need.
    assert resumed > CASES
    assert gaps <= resumed / 20

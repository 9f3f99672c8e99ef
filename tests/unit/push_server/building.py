"""Parts of a push server for tests: real ones, except where they would need Redis or a socket."""

import logging
import threading
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import redis.asyncio

from push_server.clients.connections import Connection, Connections
from push_server.clients.envelope import Session
from push_server.clients.lanes import Lane
from push_server.clients.plain import PLAIN
from push_server.clients.sessions import Seals
from push_server.delivery.liveness import Liveness
from push_server.delivery.position import Position
from push_server.delivery.resume import Resumption
from push_server.delivery.room_history import RoomChange, RoomHistory
from push_server.delivery.session_rooms import Recalled, SessionRooms
from push_server.delivery.trimming import Trimming
from push_server.delivery.window import Window
from push_server.http.pushes import Pushes
from push_server.http.readiness import Readiness
from push_server.http.services import Services
from push_server.requests.claims import Holder
from push_server.requests.forwarder import Forwarder
from push_server.requests.known_application import KnownApplication
from push_server.requests.late_outcomes import LateOutcomes, Wanted
from push_server.upkeep.lifetime import Lifetime
from push_server.upkeep.timekeeper import Timekeeper
from queue_run.channel.listener import Listener, Offset, State
from queue_run.contracts.ids import RequestId, ServerId, UserId
from queue_run.contracts.keys import Keys
from queue_run.contracts.manifest import Manifest, QueueFacts, RouteFacts
from queue_run.contracts.messages import encode_json
from queue_run.jobs.pushing import JobPusher, check_group
from queue_run.jobs.stored import StoredJob
from queue_run.settings import Settings
from queue_run.storage.clock import Clock
from queue_run.storage.fullness import Fullness
from tests.unit.recorders import RecordingDispatcher, RecordingTransport
from tests.waiting import DEADLINE

log = logging.getLogger(__name__)

KEYS = Keys("test")
SERVER = ServerId("s1")
SEALS = Seals(b"the secret of tests")

INDEX = RouteFacts(pattern="/", file="sockets/index.py", fallback=True, timeout=60)
UNORDERED = RouteFacts(pattern="/unordered", file="sockets/unordered.py", timeout=60, ordered=False)


def new_trimming(client: Any, clock: Clock, **options: Any) -> Trimming:
    return Trimming(
        client,
        clock,
        **{
            "broadcast": KEYS.broadcast,
            "own": KEYS.server(SERVER),
            "max_bytes": 64 * 1024,
            "kept_time": 120.0,
            "kept_bytes": 32 * 1024,
            "interval": 0.02,
            **options,
        },
    )


class ManifestRedis:
    """What workers have left in Redis."""

    def __init__(self, manifest: bytes | None = None, *, workers: bool = False) -> None:
        self.manifest = manifest
        self.workers = workers
        self.failure: Exception | None = None

    async def mget(self, *keys: str) -> list[bytes | None]:
        if self.failure is not None:
            raise self.failure
        held = {KEYS.manifest: self.manifest, KEYS.socket_workers: b"1" if self.workers else None}
        return [held[key] for key in keys]


def application(client: ManifestRedis) -> KnownApplication:
    return KnownApplication(cast("redis.asyncio.Redis", client), KEYS)


class PushServerParts:
    """A forwarder with connections and workers that the test speaks for."""

    def __init__(
        self,
        *routes: RouteFacts,
        authenticates: bool = False,
        queues: dict[str, QueueFacts] | None = None,
        **settings: object,
    ) -> None:
        self.settings = msgspec.convert({"namespace": "test", **settings}, Settings)
        manifest = Manifest(
            routes=list(routes), authenticates=authenticates, queues=dict(queues or {})
        )
        self.redis = ManifestRedis(manifest.encode(), workers=True)
        self.connections = Connections(SERVER)
        self.clock = Clock()
        self.application = application(self.redis)
        self.dispatcher = RecordingDispatcher()
        self.fullness = Fullness(log, "this test waits")
        self.late_outcomes = RecordingLateOutcomes()
        self.forwarder = Forwarder(
            self.settings,
            self.connections,
            self.application,
            self.dispatcher,
            self.late_outcomes,
            self.clock,
        )
        self.position = Position()
        self.position.epoch = "e1"
        self.window = Window(
            max_age=self.settings.window_time,
            max_bytes=self.settings.window_bytes,
            max_rooms=self.settings.max_rooms,
        )
        self.session_rooms = RecordingSessionRooms(self.position)
        self.trimming = new_trimming(self.redis, self.clock)
        self.resumption = Resumption(
            self.window, self.position, self.connections, self.session_rooms, SEALS
        )
        self.liveness = Liveness(
            self.position,
            interval=self.settings.ping_interval,
            timeout=self.settings.ping_timeout,
        )
        self.pusher = RecordingPusher()
        self.pushes = Pushes(self.pusher, publish_timeout=self.settings.publish_timeout)

    async def lose_workers(self) -> None:
        self.redis.workers = False
        await self.application.refresh()

    def connect(self, path: str = "/", *, user: str | None = None, query: str = "") -> "Client":
        transport = RecordingTransport()
        connection = new_connection(
            self.connections, transport, self.settings, path=path, user=user, query=query
        )
        self.connections.add(connection)
        return Client(connection, transport)

    def connect_enveloped(
        self, session: str | None = None, *, user: str | None = None, live: bool = True
    ) -> "Client":
        """A client that speaks the envelope protocol; held unless it is live."""
        client_id = UserId(user) if user else None
        transport = RecordingTransport()
        connection = new_connection(self.connections, transport, self.settings, user=user)
        envelope = Session(session or SEALS.new(client_id), self.position.offset)
        connection.session = envelope
        self.connections.add(connection)
        self.resumption.hold(connection)
        if live:
            self.resumption.start(connection)
        return Client(connection, transport)


class RecordingLateOutcomes(LateOutcomes):
    """Keeps what is looked for."""

    def __init__(self) -> None:
        self.wanted: list[tuple[Holder, Wanted]] = []

    def want(self, holder: Holder, wanted: Wanted) -> None:
        self.wanted.append((holder, wanted))


class RecordingSessionRooms(SessionRooms):
    """The rooms of sessions, without Redis."""

    def __init__(self, position: Position) -> None:
        self.rooms: dict[str, set[str]] = {}
        #: How many times to come Redis does not answer.
        self.failures = 0

        #: Sessions that are over.
        self.over: set[str] = set()
        #: Of the stream; None: as far as this server is.
        self.end: Offset | None = None
        self.position = position

    def opened(self, session: str, since: Offset) -> None:
        self.over.discard(session)

    def closed(self, connection: Connection) -> None:
        """Sessions last."""

    def changed(self, session: str, room: str, *, joins: bool, offset: Offset) -> None:
        rooms = self.rooms.setdefault(session, set())
        (rooms.add if joins else rooms.discard)(room)

    async def of(self, session: str, user: UserId | None) -> Recalled | None:
        if self.failures:
            self.failures -= 1
            return None
        end = self.end or self.position.offset
        # They were joined before everything else.
        rooms = {room: [RoomChange((0, 0), True)] for room in self.rooms.get(session, ())}
        return Recalled(session not in self.over, RoomHistory(rooms=rooms), end, end)


class RecordingPusher(JobPusher):
    """A pusher without a broker."""

    def __init__(self) -> None:
        self.jobs: list[StoredJob] = []
        self.dedupes: list[str | None] = []
        self.failure: Exception | None = None
        #: The id that is answered; that of the job itself without it.
        self.answer: str | None = None
        #: Cleared, it keeps the pusher waiting.
        self.broker_there = threading.Event()
        self.broker_there.set()
        #: Set when a push has begun.
        self.begun = threading.Event()

    def push(self, job: StoredJob, facts: QueueFacts | None, dedupe: str | None = None) -> str:
        self.begun.set()
        assert self.broker_there.wait(DEADLINE)
        if self.failure is not None:
            raise self.failure
        check_group(job, facts, dedupe)
        self.jobs.append(job)
        self.dedupes.append(dedupe)
        return self.answer or job.id


def services(parts: PushServerParts) -> Services:
    return Services(
        parts.settings,
        SERVER,
        parts.connections,
        parts.application,
        parts.forwarder,
        pushes=parts.pushes,
        position=parts.position,
        resumption=parts.resumption,
        liveness=parts.liveness,
        clock=parts.clock,
    )


def readiness_of(parts: PushServerParts) -> tuple[Lifetime, Listener, Readiness]:
    """A server that answers, with what else it depends on."""
    lifetime, listener = Lifetime(), Listener("redis://127.0.0.1:1/0", [])
    listener._state = State.READING
    readiness = Readiness(
        lifetime=lifetime,
        application=parts.application,
        listener=listener,
        dispatcher=parts.dispatcher,
        fullness=parts.fullness,
        timekeeper=Timekeeper(parts.redis, KEYS, parts.clock, name="a server", expiry=9),
    )
    return lifetime, listener, readiness


async def push_server(*routes: RouteFacts, **settings: object) -> PushServerParts:
    parts = PushServerParts(*(routes or (INDEX, UNORDERED)), **settings)  # type: ignore[arg-type]
    await parts.application.refresh()
    return parts


class Client:
    """A connection and the socket that it stands for."""

    def __init__(self, connection: Connection, transport: RecordingTransport) -> None:
        self.connection = connection
        self.transport = transport

    @property
    def frames(self) -> list[bytes]:
        return self.transport.frames

    @property
    def told(self) -> list[Any]:
        """The frames of the envelope protocol, decoded."""
        return [msgspec.json.decode(payload) for payload in payloads(b"".join(self.frames))]


def error_frame(text: str) -> bytes:
    """How a plain client learns that its request has failed."""
    return PLAIN.error(RequestId("any"), text)


def payload(frame: bytes) -> bytes:
    """What an unmasked WebSocket frame carries (RFC 6455, 5.2)."""
    [carried] = payloads(frame)
    return carried


def payloads(frames: bytes) -> Iterator[bytes]:
    """What unmasked WebSocket frames carry, one behind the other."""
    while frames:
        start = {126: 4, 127: 10}.get(frames[1], 2)
        size = frames[1] if start == 2 else int.from_bytes(frames[2:start], "big")
        yield frames[start : start + size]
        frames = frames[start + size :]


def new_connection(
    connections: Connections,
    transport: RecordingTransport,
    settings: Settings | None = None,
    *,
    path: str = "/",
    user: str | None = None,
    query: str = "",
) -> Connection:
    settings = settings or Settings()
    return Connection(
        connections.new_id(),
        transport,
        Lane(max_requests=settings.max_lane_requests, max_bytes=settings.max_lane_bytes),
        path=path,
        query=query,
        user=msgspec.Raw(encode_json({"id": user} if user else None)),
        user_id=UserId(user) if user else None,
    )

"""Parts of a push server for tests: real ones, except where they would need Redis or a socket."""

import threading
from typing import cast

import msgspec
import redis.asyncio

from push_server.application import Application
from push_server.connections import Connection, Connections
from push_server.forwarder import Forwarder
from push_server.lanes import Lane
from push_server.pushes import Pushes
from push_server.services import Services
from queue_run.ids import ServerId, UserId
from queue_run.jobs.envelopes import JobEnvelope
from queue_run.jobs.pushing import JobPusher, check_group
from queue_run.keys import Keys
from queue_run.manifest import Manifest, QueueFacts, RouteFacts
from queue_run.messages import encode_json
from queue_run.settings import Settings
from tests.unit.recorders import RecordingDispatcher, RecordingTransport
from tests.waiting import DEADLINE

KEYS = Keys("test")
SERVER = ServerId("s1")

INDEX = RouteFacts(pattern="/", file="sockets/index.py", fallback=True, timeout=60)
UNORDERED = RouteFacts(pattern="/unordered", file="sockets/unordered.py", timeout=60, ordered=False)


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


def application(client: ManifestRedis) -> Application:
    return Application(cast("redis.asyncio.Redis", client), KEYS)


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
        self.application = application(self.redis)
        self.dispatcher = RecordingDispatcher()
        self.forwarder = Forwarder(
            self.settings, self.connections, self.application, self.dispatcher
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


class RecordingPusher(JobPusher):
    """A pusher without a broker."""

    def __init__(self) -> None:
        self.jobs: list[JobEnvelope] = []
        self.dedupes: list[str | None] = []
        self.failure: Exception | None = None
        #: The id that is answered; that of the job itself without it.
        self.answer: str | None = None
        #: Cleared, it keeps the pusher waiting.
        self.broker_there = threading.Event()
        self.broker_there.set()

    def push(self, job: JobEnvelope, facts: QueueFacts | None, dedupe: str | None = None) -> str:
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
    )


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

"""The parts of a push server, and how they are put together. Nothing is decided here.

Each class makes the parts of one area, from those that are given to it.
"""

import socket
from functools import partial

from push_server.clients.connections import Connections
from push_server.clients.session_secret import SharedSecret
from push_server.delivery.continuity import Continuity
from push_server.delivery.hub import Hub
from push_server.delivery.liveness import Liveness
from push_server.delivery.position import Position
from push_server.delivery.resume import Resumption
from push_server.delivery.session_rooms import SessionRooms
from push_server.delivery.trimming import Trimming
from push_server.delivery.window import Window
from push_server.http.pushes import Pushes
from push_server.http.readiness import Readiness
from push_server.http.services import Services
from push_server.http.site import Site
from push_server.requests.claims import Claiming, Claims
from push_server.requests.forwarder import Forwarder
from push_server.requests.known_application import KnownApplication
from push_server.requests.late_outcomes import LateOutcomes
from push_server.transport.lag import LagMonitor
from push_server.upkeep.heartbeat import Heartbeat
from push_server.upkeep.joining import Joining
from push_server.upkeep.lifetime import Lifetime
from push_server.upkeep.own_stream import OwnStream
from push_server.upkeep.presence import Presence
from push_server.upkeep.timekeeper import Timekeeper
from queue_run.broker.celery_app import create_celery
from queue_run.broker.dispatch import Dispatcher
from queue_run.channel.listener import ANSWER_TIMEOUT, Listener
from queue_run.contracts.ids import new_server_id
from queue_run.contracts.keys import Keys
from queue_run.jobs.attempt_records import Attempts
from queue_run.jobs.groups import Groups
from queue_run.jobs.pushing import JobPusher
from queue_run.settings import Settings
from queue_run.storage.clock import Clock
from queue_run.storage.links import async_client
from queue_run.storage.scripts import Store


class Ground:
    """The parts that all others stand on: a name, Redis, its clock, the broker, connections."""

    def __init__(self, settings: Settings, lifetime: Lifetime) -> None:
        self.settings = settings
        self.lifetime = lifetime
        self.id = new_server_id()
        self.keys = Keys(settings.namespace)
        # Its time limit is ANSWER_TIMEOUT, around each use (see the listener's).
        self.redis = async_client(settings.redis_url, connect_timeout=ANSWER_TIMEOUT, retries=1)
        self.clock = Clock()
        self.store = Store(settings, patience=settings.publish_timeout, clock=self.clock)
        self.celery = create_celery(settings)
        self.stream = OwnStream(
            self.redis,
            self.keys.server(self.id),
            heartbeat_expiry=settings.heartbeat_expiry,
            session_time=settings.session_time,
        )
        self.application = application = KnownApplication(self.redis, self.keys)
        self.presence = Presence(settings, self.id, watched=lambda: application.watches_users)
        self.connections = Connections(self.id, self.presence)
        self.position = Position()
        self.session_rooms = SessionRooms(
            self.redis,
            self.keys,
            self.connections,
            self.position,
            session_time=settings.session_time,
            window_time=settings.window_time,
        )


class RequestParts:
    """The way of requests to the workers, and of their outcomes back."""

    def __init__(self, ground: Ground) -> None:
        settings = ground.settings
        self.claiming = Claiming(
            Claims(ground.store),
            ground.keys.claim,
            session_time=settings.session_time,
            clock=ground.clock,
            untold=ground.session_rooms.untold,
        )
        self.dispatcher = Dispatcher(
            ground.celery,
            ground.keys.sockets_queue,
            claim=self.claiming,
            clock=ground.clock,
            on_loss=partial(ground.lifetime.lose_from_thread, "the dispatcher"),
        )
        self.late_outcomes = LateOutcomes(ground.redis, ground.keys, keep=ground.stream.expiry)
        self.forwarder = Forwarder(
            settings,
            ground.connections,
            ground.application,
            self.dispatcher,
            self.late_outcomes,
            ground.clock,
        )


class DeliveryParts:
    """The way of messages from the channel to the connections, also to clients that were away."""

    def __init__(self, ground: Ground, forwarder: Forwarder) -> None:
        self._read(ground)
        self._keep(ground)
        settings, position = ground.settings, ground.position
        self.liveness = Liveness(
            position, interval=settings.ping_interval, timeout=settings.ping_timeout
        )
        self.hub = Hub(
            ground.connections,
            forwarder,
            broadcast=ground.keys.broadcast,
            position=position,
            window=self.window,
            session_rooms=ground.session_rooms,
            trimming=self.trimming,
            max_rooms=settings.max_rooms,
        )
        self.continuity = Continuity(
            ground.redis,
            ground.keys,
            self.listener,
            position,
            hub=self.hub,
            session_rooms=ground.session_rooms,
            resumption=self.resumption,
            window=self.window,
            window_time=settings.window_time,
        )

    def _read(self, ground: Ground) -> None:
        settings = ground.settings
        self.listener = Listener(
            settings.redis_url,
            [ground.keys.broadcast, ground.stream.name],
            clock=ground.clock,
            kept_entries=settings.broadcast_entries,
            # What an entry takes in Redis is more than its bytes.
            kept_bytes=settings.stream_bytes // 4,
        )
        self.trimming = Trimming(
            ground.redis,
            ground.clock,
            broadcast=ground.keys.broadcast,
            own=ground.stream.name,
            max_bytes=settings.stream_bytes,
            # As long as claims of requests are remembered after these have ended.
            kept_time=2 * settings.session_time,
            kept_bytes=settings.window_bytes,
            interval=settings.heartbeat_interval,
        )

    def _keep(self, ground: Ground) -> None:
        settings = ground.settings
        self.window = Window(
            max_age=settings.window_time,
            max_bytes=settings.window_bytes,
            max_rooms=settings.max_rooms,
        )
        self.secret = SharedSecret(ground.redis, ground.keys, settings.session_secret)
        self.resumption = Resumption(
            self.window,
            ground.position,
            ground.connections,
            ground.session_rooms,
            self.secret.seals,
        )


class UpkeepParts:
    """The parts that keep this server known to Redis, and read from Redis what has changed."""

    def __init__(self, ground: Ground, delivery: DeliveryParts) -> None:
        settings = ground.settings
        self.timekeeper = Timekeeper(
            ground.redis,
            ground.keys,
            ground.clock,
            name=f"push server {ground.id} on {socket.gethostname()}",
            expiry=settings.heartbeat_expiry,
        )
        self.joining = Joining(
            settings.redis_url,
            lifetime=ground.lifetime,
            stream=ground.stream,
            application=ground.application,
            continuity=delivery.continuity,
            secret=delivery.secret,
            timekeeper=self.timekeeper,
        )
        self.heartbeat = Heartbeat(
            ground.redis,
            ground.keys,
            interval=settings.heartbeat_interval,
            stream=ground.stream,
            application=ground.application,
            continuity=delivery.continuity,
            secret=delivery.secret,
            timekeeper=self.timekeeper,
        )


class HttpParts:
    """The HTTP side."""

    def __init__(
        self, ground: Ground, requests: RequestParts, delivery: DeliveryParts, upkeep: UpkeepParts
    ) -> None:
        settings = ground.settings
        self.pushes = _pushes(ground)
        self.services = Services(
            settings,
            ground.id,
            ground.connections,
            ground.application,
            requests.forwarder,
            pushes=self.pushes,
            position=ground.position,
            resumption=delivery.resumption,
            liveness=delivery.liveness,
            clock=ground.clock,
        )
        readiness = Readiness(
            lifetime=ground.lifetime,
            application=ground.application,
            listener=delivery.listener,
            dispatcher=requests.dispatcher,
            fullness=upkeep.heartbeat.fullness,
            timekeeper=upkeep.timekeeper,
        )
        self.site = Site(settings, self.services, readiness, LagMonitor())


def _pushes(ground: Ground) -> Pushes:
    settings, celery = ground.settings, ground.celery
    pusher = JobPusher(
        lambda: celery,
        Groups(ground.store, lease=settings.lease),
        Attempts(ground.store, lease=settings.lease, visibility=settings.visibility_timeout),
        patience=settings.publish_timeout,
    )
    return Pushes(
        pusher,
        publish_timeout=settings.publish_timeout,
        on_loss=partial(ground.lifetime.lose_from_thread, "the thread that pushes jobs"),
    )


class Parts:
    """A push server, put together."""

    def __init__(self, settings: Settings, lifetime: Lifetime) -> None:
        self.ground = Ground(settings, lifetime)
        self.requests = RequestParts(self.ground)
        self.delivery = DeliveryParts(self.ground, self.requests.forwarder)
        self.upkeep = UpkeepParts(self.ground, self.delivery)
        self.http = HttpParts(self.ground, self.requests, self.delivery, self.upkeep)

"""The manifest: all that a push server knows of the application.

Workers write it to Redis when they start; push servers read it at start, when the channel says
that it changed, and with every heartbeat.
"""

import hashlib

import msgspec

from queue_run.contracts.routing import Router
from queue_run.errors import InvalidEnvelope


class RouteFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about one file in `sockets/` that push servers need."""

    pattern: str
    #: The file, below `sockets/`; for people.
    file: str
    #: Also answers paths below the pattern that no other route answers.
    fallback: bool = False
    #: Seconds that its handler may take.
    timeout: float
    #: One request of a connection at a time.
    ordered: bool = True


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts about one file in `queues/` that are needed to push a job."""

    #: Jobs are pushed with a group.
    fifo: bool = False
    #: The Celery queue that carries its jobs, without the namespace; None for the usual one.
    celery_queue: str | None = None
    #: Who may push by HTTP beside programs with an API key: "user" for every user. Another value
    #: comes from a newer release, and lets no user push.
    http: str | None = None

    @property
    def takes_users(self) -> bool:
        """True if users may push to the queue by HTTP."""
        return self.http == "user"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of an application: the routes and queues that its workers offer."""

    routes: list[RouteFacts] = []
    #: Whether connections are accepted only after a worker has run `on_authenticate`.
    authenticates: bool = False
    #: Whether it has `on_online` or `on_offline`, and so must learn which users come and go.
    watches_users: bool = False
    #: The queues by name.
    queues: dict[str, QueueFacts] = {}

    def encode(self) -> bytes:
        return _encoder.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """Read a manifest.

        Raises:
            InvalidEnvelope: when the bytes are not a manifest.
        """
        try:
            return _decoder.decode(data)
        except msgspec.DecodeError as error:
            raise InvalidEnvelope(data, str(error)) from None

    @property
    def version(self) -> str:
        """A text that is equal for equal manifests."""
        return hashlib.sha256(self.encode()).hexdigest()[:12]

    def router(self) -> Router[RouteFacts]:
        router: Router[RouteFacts] = Router()
        for route in self.routes:
            router.add(route.pattern, route, fallback=route.fallback)
        return router


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Manifest] = msgspec.json.Decoder(Manifest)

"""The application as this push server knows it: the manifest, and whether workers live."""

import logging
from typing import cast

import redis.asyncio
from redis.exceptions import RedisError

from queue_run.contracts.keys import Keys
from queue_run.contracts.manifest import Manifest, QueueFacts, RouteFacts
from queue_run.contracts.routing import Router
from queue_run.errors import InvalidEnvelope

log = logging.getLogger(__name__)


class KnownApplication:
    """The application as the workers describe it in Redis."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._data: bytes | None = None
        self._manifest = Manifest()
        self._router: Router[RouteFacts] = Router()
        self._workers_live = False

    async def refresh(self) -> None:
        """Read what the workers offer.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer; what was known stays.
        """
        answers = await self._client.mget(self._keys.manifest, self._keys.socket_workers)
        data, alive = cast("list[bytes | None]", answers)
        if self._workers_live != (alive is not None):
            self._workers_live = alive is not None
            log.info("workers are %s", "there" if self._workers_live else "gone")
        if data is None or data == self._data:
            return
        try:
            manifest = Manifest.decode(data)
            router = manifest.router()
        except (InvalidEnvelope, ValueError) as error:
            log.error("the manifest that workers left cannot be used: %s", error)
            return
        self._data, self._manifest, self._router = data, manifest, router
        log.info(
            "the application has %d routes and %d queues (%s)",
            len(manifest.routes),
            len(manifest.queues),
            manifest.version,
        )

    async def load_failure(self) -> str | None:
        """Read why workers cannot load the application; None when no reason is known."""
        try:
            said = await self._client.get(self._keys.load_failure)
        except (RedisError, OSError):
            return None
        return cast("bytes", said).decode(errors="replace") if said else None

    @property
    def known(self) -> bool:
        """True once a worker has said what the application is."""
        return self._data is not None

    @property
    def available(self) -> bool:
        """True while some worker answers requests."""
        return self._workers_live and self.known

    @property
    def authenticates(self) -> bool:
        return self._manifest.authenticates

    @property
    def watches_users(self) -> bool:
        """True when the application has `on_online` or `on_offline`."""
        return self._manifest.watches_users

    def route(self, path: str) -> RouteFacts | None:
        """The route that answers a path; None when nothing does."""
        found = self._router.match(path) if self.available else None
        return found[0] if found else None

    def queue(self, name: str) -> QueueFacts | None:
        """The queue of this name; None when no worker has said that it offers one.

        The queue is known while no worker lives, too: its jobs wait for one.
        """
        return self._manifest.queues.get(name)

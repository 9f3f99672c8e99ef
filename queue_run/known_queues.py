"""Which queues workers offer: so that a push to a misspelt name fails where it is made."""

import time

import redis
from redis.exceptions import RedisError

from queue_run.errors import InvalidEnvelope, UnknownQueue
from queue_run.keys import Keys
from queue_run.manifest import Manifest
from queue_run.settings import Settings

#: Seconds before an unknown name makes it look again.
REFRESH = 1.0


class KnownQueues:
    """The queues that workers offer, as far as this process has heard."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names: frozenset[str] | None = None
        self._read_at = float("-inf")

    def check(self, name: str) -> None:
        """
        Raises:
            UnknownQueue: when workers have said what they offer, and this is not among it.
        """
        if self._names is not None and name in self._names:
            return
        if time.monotonic() - self._read_at >= REFRESH:
            self._names = self._read()
            self._read_at = time.monotonic()
        # No worker has ever started: the job waits for one.
        if self._names is not None and name not in self._names:
            raise UnknownQueue(name, self._names)

    def _read(self) -> frozenset[str] | None:
        settings = self._settings
        try:
            with redis.Redis.from_url(
                settings.redis_url, socket_timeout=settings.publish_timeout
            ) as client:
                data = client.get(Keys(settings.namespace).manifest)
            return frozenset(Manifest.decode(data).queues) if isinstance(data, bytes) else None
        except (RedisError, InvalidEnvelope):
            # The manifest only helps to say no early; the broker decides.
            return self._names

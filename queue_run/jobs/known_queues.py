"""The queues that workers offer: a push to a misspelt name fails where the push is made."""

import time

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from queue_run.contracts.keys import Keys
from queue_run.contracts.manifest import Manifest, QueueFacts
from queue_run.errors import InvalidEnvelope, UnknownQueue
from queue_run.settings import Settings
from queue_run.storage.patience import longest_answer, redis_options

#: Seconds before an unknown name makes it look again; and before a known one does: what workers
#: offer may change.
REFRESH_UNKNOWN, REFRESH_KNOWN = 1.0, 30.0


class KnownQueues:
    """The queues that workers offer, as far as this process has heard."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._facts: dict[str, QueueFacts] | None = None
        self._read_at = float("-inf")

    def facts(self, name: str) -> QueueFacts | None:
        """Look up the facts about a queue; None where no worker has ever said what it offers.

        Raises:
            UnknownQueue: when workers have said what they offer, and this is not among it.
        """
        known = self._facts is not None and name in self._facts
        age = time.monotonic() - self._read_at
        if age >= (REFRESH_KNOWN if known else REFRESH_UNKNOWN):
            self._facts = self._read()
            self._read_at = time.monotonic()
        # No worker has ever started: the job waits for one.
        if self._facts is None:
            return None
        if name not in self._facts:
            raise UnknownQueue(name, self._facts)
        return self._facts[name]

    def _read(self) -> dict[str, QueueFacts] | None:
        settings = self._settings
        limit = longest_answer(settings.publish_timeout)
        try:
            with redis.Redis.from_url(
                settings.redis_url,
                **redis_options(settings.redis_url, timeout=limit, connect_timeout=limit),
                retry=Retry(NoBackoff(), 1),
            ) as client:
                data = client.get(Keys(settings.namespace).manifest)
            return Manifest.decode(data).queues if isinstance(data, bytes) else None
        except (RedisError, InvalidEnvelope):
            # The manifest only helps to say no early; the broker decides.
            return self._facts

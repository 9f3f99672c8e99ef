"""The heartbeat of a push server: what it shows Redis of itself, and asks about the others."""

import asyncio
import contextlib
import logging

import redis.asyncio
from redis.exceptions import RedisError

from push_server.clients.session_secret import SharedSecret
from push_server.delivery.continuity import Continuity
from push_server.requests.known_application import KnownApplication
from push_server.upkeep.own_stream import OwnStream
from push_server.upkeep.timekeeper import Timekeeper
from queue_run.channel.listener import ANSWER_TIMEOUT
from queue_run.contracts.keys import Keys
from queue_run.storage.fullness import Fullness, is_full
from queue_run.storage.links import drop_idle

log = logging.getLogger(__name__)


class Heartbeat:
    """Keeps this server's stream alive, and what is known of the application and of Redis fresh.

    Args:
        interval: seconds between two heartbeats; one is due at once when an epoch has ended.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        *,
        interval: float,
        stream: OwnStream,
        application: KnownApplication,
        continuity: Continuity,
        secret: SharedSecret,
        timekeeper: Timekeeper,
    ) -> None:
        self._redis = client
        self._probe = keys.probe
        self._interval = interval
        self._stream = stream
        self._application = application
        self._continuity = continuity
        self._secret = secret
        self._timekeeper = timekeeper
        #: What is known of a full Redis.
        self.fullness = Fullness(
            log, "nothing is sent, and workers only finish what they have. /readyz says 503"
        )

    async def run(self) -> None:
        """Beat, for ever; Redis's absence only makes it wait."""
        while True:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    await self._beat()
            except (RedisError, OSError) as error:
                await self._missed(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._continuity.check_due.wait()
            self._continuity.check_due.clear()

    async def _missed(self, error: Exception) -> None:
        if is_full(error):
            self.fullness.refused()
        else:
            log.warning("no heartbeat: %s", str(error) or type(error))
            await drop_idle(self._redis)

    async def _beat(self) -> None:
        # First what a full Redis takes too.
        kept = await self._stream.renew()
        await self._application.refresh()
        await self._look_for_room()
        await self._continuity.check()
        await self._secret.agree()
        if not kept:
            log.warning("Redis has lost this server's stream: it is made anew")
            await self._stream.create()
        await self._timekeeper.renew()

    async def _look_for_room(self) -> None:
        """Learn whether Redis is full, by a command that would change nothing."""
        try:
            await self._redis.setrange(self._probe, 0, "")
        except RedisError as error:
            if not is_full(error):
                raise
            self.fullness.refused()
        else:
            self.fullness.taken()

"""Joining the channel: what a push server reads and leaves in Redis before it serves anybody."""

import asyncio
import logging

from redis.exceptions import RedisError

from push_server.clients.session_secret import SharedSecret
from push_server.delivery.continuity import Continuity
from push_server.requests.known_application import KnownApplication
from push_server.upkeep.lifetime import CannotStart, Lifetime
from push_server.upkeep.own_stream import OwnStream
from push_server.upkeep.timekeeper import Timekeeper
from queue_run.channel.listener import ANSWER_TIMEOUT
from queue_run.settings import without_password
from queue_run.storage.fullness import Fullness, is_full
from queue_run.storage.patience import Unready

log = logging.getLogger(__name__)

#: Seconds between two looks at a Redis that does not do its part.
UNREADY_PAUSE = 2.0


class Joining:
    """Takes the first steps on the channel, in their order.

    Args:
        redis_url: of the Redis that must be there, for people.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        lifetime: Lifetime,
        stream: OwnStream,
        application: KnownApplication,
        continuity: Continuity,
        secret: SharedSecret,
        timekeeper: Timekeeper,
    ) -> None:
        self._redis_url = redis_url
        self._lifetime = lifetime
        self._stream = stream
        self._application = application
        self._continuity = continuity
        self._secret = secret
        self._timekeeper = timekeeper

    async def join(self) -> bool:
        """Join, and wait for a Redis that is there and does not do its part.

        Returns:
            False when this server was told to end meanwhile.

        Raises:
            CannotStart: when none is there.
        """
        try:
            return await self._join_when_ready()
        except (RedisError, OSError) as error:
            raise CannotStart(
                f"Redis at {without_password(self._redis_url)} does not answer ({error}): "
                "start it, or set REDIS_URL"
            ) from None

    async def _join_when_ready(self) -> bool:
        # It keeps nothing yet of what all push servers share.
        full = Fullness(log, "this server waits for it")
        while not self._lifetime.ending:
            try:
                await self._join_now()
            except Unready as error:
                log.warning("Redis does not do its part, this server waits for it: %s", error)
            except RedisError as error:
                if not is_full(error):
                    raise
                full.refused()
            else:
                return True
            await self._lifetime.ended(within=UNREADY_PAUSE)
        return False

    async def _join_now(self) -> None:
        async with asyncio.timeout(3 * ANSWER_TIMEOUT):
            await self._timekeeper.measure()
            await self._continuity.read_epoch()
            await self._secret.agree()
            await self._stream.create()
            await self._continuity.open()
            await self._application.refresh()
        await self._continuity.fill_window()

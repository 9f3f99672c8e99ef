"""Telling the push server that no worker of messages is left, and that none starts soon.

A worker that is killed, or ends by itself, leaves its sign of life behind, which lasts for some
heartbeats; meanwhile everybody who connects would wait for an answer. Mostly another worker starts
in a moment, and gives it. Where the files cannot be loaded none does: whoever connects is to read
that, and not to wait.
"""

import asyncio
import contextlib

from redis.exceptions import RedisError

from queue_run.cli.supervision.reporter import Program
from queue_run.contracts.envelopes import ApplicationChanged, encode
from queue_run.contracts.keys import Keys
from queue_run.settings import Settings
from queue_run.storage.links import async_client
from queue_run.storage.patience import LONGEST_ANSWER

#: The program whose worker answers messages.
WORKER = "sockets"
#: Seconds until a start for which whoever connects may wait.
SHORT_DELAY = 2.0


class Absence:
    """The reaction of a session when its worker of messages has ended.

    Args:
        settings: those of the session's processes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keys(settings.namespace)
        self._is_absent = asyncio.Event()

    def ended(self, program: Program, delay: float | None) -> None:
        """Note that a program has ended; `delay` is in seconds, None until a file changes."""
        if program.name == WORKER and (delay is None or delay > SHORT_DELAY):
            self._is_absent.set()

    async def run(self) -> None:
        """Tell the push server each time that no worker is left."""
        while await self._is_absent.wait():
            self._is_absent.clear()
            # Without Redis nobody can connect anyway.
            with contextlib.suppress(RedisError, OSError):
                await self._tell()

    async def _tell(self) -> None:
        changed = encode(ApplicationChanged(version=""))
        client = async_client(self._settings.redis_url, connect_timeout=LONGEST_ANSWER, retries=1)
        try:
            async with asyncio.timeout(LONGEST_ANSWER), client.pipeline() as pipeline:
                # A worker that somebody has started beside the session renews it.
                pipeline.delete(self._keys.socket_workers)
                pipeline.xadd(
                    self._keys.broadcast,
                    {"e": changed},
                    maxlen=self._settings.broadcast_entries,
                    approximate=True,
                )
                await pipeline.execute()
        finally:
            await client.aclose()

"""The lifetime of a push server: it ends when it is told to, or has lost a part of itself.

A part that serves every connection and ends of a defect leaves a process that looks alive and is
deaf. So its end is the end of the process: `/readyz` names it, connections are closed as on a stop,
and the exit code tells whoever supervises the process to start another one.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class CannotStart(Exception):
    """Something outside is missing; the text says what, and what to do."""


class PartLost(Exception):
    """A part that serves every connection has ended of a defect; the log has it."""


class Lifetime:
    """Knows whether this push server is to end, and why; made on its event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._over = False
        #: The first part that ended of a defect.
        self.lost: str | None = None

    @property
    def ending(self) -> bool:
        return self._ending.is_set()

    def end(self) -> None:
        """Let the process come to its end: it was told to."""
        self._ending.set()

    def lose(self, part: str) -> None:
        """Let the process come to its end: a part of it has ended of a defect."""
        self.lost = self.lost or part
        self._ending.set()

    def lose_from_thread(self, part: str) -> None:
        """Do the same as `lose`, from any thread."""
        self._loop.call_soon_threadsafe(self.lose, part)

    async def ended(self, within: float | None = None) -> None:
        """Return when the process is to end, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._ending.wait()

    async def guard(self, work: Coroutine[Any, Any, None], part: str) -> None:
        """Do work that serves every connection, and ends only when it is cancelled after `finish`.

        It raises nothing: the other parts are needed for as long as connections are closed.
        """
        failure: BaseException | None = None
        try:
            await work
        except asyncio.CancelledError:
            if self._over:
                raise
        except BaseException as error:
            failure = error
        log.critical("%s ended unexpectedly", part, exc_info=failure)
        self.lose(part)

    def finish(self) -> None:
        """Note that connections are closed: a part that is cancelled from now on is not lost."""
        self._over = True

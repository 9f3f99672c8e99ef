"""Keeping this push server's clock by that of Redis, and knowing whose clocks are wrong."""

from typing import Any

from queue_run.contracts.keys import Keys
from queue_run.process.clock_reports import TELL, ClockReport, ClockWatch, notes
from queue_run.storage.clock import Clock


class Timekeeper:
    """Measures the clock with each heartbeat.

    Args:
        client: a `redis.asyncio.Redis`.
        name: of this process, for people.
        expiry: seconds after the last heartbeat at which this process counts as dead.
    """

    def __init__(self, client: Any, keys: Keys, clock: Clock, *, name: str, expiry: float) -> None:
        self._client = client
        self._key = keys.clocks
        self._clock = clock
        self._watch = ClockWatch(clock)
        self._name = name
        self._expiry = expiry
        #: Sentences for people: whose clocks differ from Redis', this server's too.
        self.notes: list[str] = []

    async def measure(self) -> None:
        """
        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        await self._clock.measure_async(self._client.time)

    async def renew(self) -> None:
        """Measure, say what came of it, and hear it from the others.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        await self.measure()
        difference = self._watch.look()
        if difference:
            told = ClockReport(difference, self._clock.now() + self._expiry)
            lasts = str(round(self._expiry * 1000))
            await self._client.eval(*TELL.given([self._key], [self._name, told.encode(), lasts]))
        found = await self._client.hgetall(self._key)
        self.notes, gone = notes(found, self._clock.now())
        if not difference and self._name.encode() in found:
            gone.append(self._name.encode())
        if gone:
            await self._client.hdel(self._key, *gone)

"""Keeping a worker's clock, or beat's, by that of Redis."""

import logging

import redis
from redis.exceptions import RedisError

from queue_run.contracts.keys import Keys
from queue_run.logs.reminders import Reminder
from queue_run.process.clock_reports import TELL, ClockReport, ClockWatch
from queue_run.storage.clock import Clock
from queue_run.threads.caretaker import Caretaker
from queue_run.threads.vital import end_process

log = logging.getLogger(__name__)


class Timekeeper:
    """Measures the clock with each heartbeat, and tells push servers when this machine's is wrong.

    Args:
        name: of this process, for people.
        expiry: seconds after the last heartbeat at which this process counts as dead.
    """

    def __init__(
        self, client: "redis.Redis", keys: Keys, clock: Clock, *, name: str, expiry: float
    ) -> None:
        self._client = client
        self._key = keys.clocks
        self._clock = clock
        self._watch = ClockWatch(clock)
        self._name = name
        self._expiry = expiry
        #: Whether Redis may hold something of this process.
        self._has_told = False
        self._away = Reminder(log, "Redis' clock cannot be asked for: %s")

    def renew(self) -> None:
        """
        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        self._clock.measure(self._client.time)
        difference = self._watch.look()
        if difference:
            self._has_told = True
            told = ClockReport(difference, self._clock.now() + self._expiry)
            lasts = str(round(self._expiry * 1000))
            self._client.eval(*TELL.given([self._key], [self._name, told.encode(), lasts]))
        elif self._has_told:
            self._client.hdel(self._key, self._name)
            self._has_told = False

    def run_in_background(self, interval: float) -> Caretaker:
        """Measure from a thread, for a process that leaves no other heartbeat."""
        thread = Caretaker(
            self._measure,
            interval,
            name="queue-run-clock",
            purpose="asking for Redis' clock",
            on_loss=end_process,
        )
        thread.start()
        return thread

    def _measure(self) -> None:
        try:
            self.renew()
            self._away.over()
        except (RedisError, OSError) as error:
            self._away.tell(error)

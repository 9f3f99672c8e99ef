"""Telling push servers what this worker offers, and that it lives."""

import logging
from collections.abc import Callable

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from queue_run.contracts.envelopes import ApplicationChanged, encode
from queue_run.contracts.keys import Keys
from queue_run.contracts.manifest import Manifest
from queue_run.logs.reminders import Reminder
from queue_run.settings import Settings
from queue_run.storage.clock import Clock
from queue_run.storage.fullness import Fullness, is_full
from queue_run.storage.patience import LONGEST_ANSWER, watched_client
from queue_run.threads.caretaker import Caretaker
from worker.ending import end_worker
from worker.timekeeper import Timekeeper

log = logging.getLogger(__name__)


class Announcer:
    """Writes the manifest, renews the sign of life of workers that serve requests, and keeps the
    clock of the process."""

    def __init__(
        self,
        settings: Settings,
        manifest: Manifest,
        *,
        serves_sockets: bool,
        clock: Clock,
        name: str,
        takes: Callable[[], bool],
    ) -> None:
        """
        Args:
            name: of the worker, for people.
            takes: whether the worker takes requests now. While it does not, it gives no sign of
                life.
        """
        self._settings = settings
        self._keys = Keys(settings.namespace)
        self._manifest = manifest
        self._serves_sockets = serves_sockets
        self._takes = takes
        self._took = True
        self._redis = watched_client(
            settings.redis_url,
            timeout=LONGEST_ANSWER,
            connect_timeout=LONGEST_ANSWER,
            retry=Retry(NoBackoff(), 1),
        )
        self._timekeeper = Timekeeper(
            self._redis, self._keys, clock, name=name, expiry=settings.heartbeat_expiry
        )
        self._fullness = Fullness(log, "push servers are not told of this worker")
        self._away = Reminder(log, "could not tell push servers of this worker: %s")
        self._announced = False
        self._thread = Caretaker(
            self._tell,
            settings.heartbeat_interval,
            name="queue-run-announcer",
            purpose="telling push servers of this worker",
            on_loss=end_worker,
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Renew no more. The sign of life expires, unless other workers renew it."""
        self._thread.stop()
        self._redis.close()

    def _tell(self) -> None:
        try:
            self._renew()
            self._timekeeper.renew()
            self._fullness.taken()
            self._away.over()
        except (RedisError, OSError) as error:
            if is_full(error):
                self._fullness.refused()
            else:
                self._away.tell(error)

    def _renew(self) -> None:
        """Announce at the start and after Redis has lost the manifest; else only live."""
        data = self._manifest.encode()
        was_alive = self._live()
        if not self._announced:
            self._redis.set(self._keys.manifest, data)
        elif was_alive and self._redis.exists(self._keys.manifest):
            # The usual case writes nothing that a full Redis would refuse.
            return
        else:
            self._redis.set(self._keys.manifest, data, nx=True)
        self._redis.xadd(
            self._keys.broadcast,
            {"e": encode(ApplicationChanged(version=self._manifest.version))},
            maxlen=self._settings.broadcast_entries,
            approximate=True,
        )
        if not self._announced:
            log.info("announced %d routes", len(self._manifest.routes))
        self._announced = True

    def _is_taking(self) -> bool:
        takes = self._takes()
        if takes != self._took:
            self._took = takes
            log.warning(
                "this worker takes requests again"
                if takes
                else "this worker takes no requests: its link to the broker gives no answer, or "
                "its handlers hold it up. Push servers are not told that it lives"
            )
        return takes

    def _live(self) -> bool:
        """Renew the sign of life; whether there was one already."""
        if not self._serves_sockets or not self._is_taking():
            return True
        expiry = self._settings.heartbeat_expiry
        # A full Redis takes this, and would not take the other.
        if self._redis.expire(self._keys.socket_workers, expiry):
            return True
        return bool(self._redis.set(self._keys.socket_workers, "1", ex=expiry, get=True))

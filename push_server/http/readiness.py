"""The readiness of a push server: whether it can answer clients now, and what is missing."""

from push_server.requests.known_application import KnownApplication
from push_server.upkeep.lifetime import Lifetime
from push_server.upkeep.timekeeper import Timekeeper
from queue_run.broker.dispatch import Dispatcher
from queue_run.channel.listener import Listener
from queue_run.storage.fullness import Fullness

#: Seconds without an answer after which the broker counts as away: two looks at it, and as long as
#: an answer may take, and some more.
BROKER_SILENCE = 8.0


class Readiness:
    """Asks the parts of a push server."""

    def __init__(
        self,
        *,
        lifetime: Lifetime,
        application: KnownApplication,
        listener: Listener,
        dispatcher: Dispatcher,
        fullness: Fullness,
        timekeeper: Timekeeper,
    ) -> None:
        self._lifetime = lifetime
        self._application = application
        self._listener = listener
        self._dispatcher = dispatcher
        self._fullness = fullness
        self._timekeeper = timekeeper

    def missing(self) -> list[str]:
        """List what is missing to answer messages of clients; empty when nothing is."""
        found = []
        if self._lifetime.lost is not None:
            found.append(f"{self._lifetime.lost}, which ended unexpectedly")
        if self._lifetime.ending:
            found.append("shutting down")
        if not self._listener.connected:
            found.append("Redis")
        if self._fullness:
            found.append("room in Redis: it is full (maxmemory)")
        if self._dispatcher.silence >= BROKER_SILENCE:
            found.append("broker")
        if not self._application.available:
            found.append("workers")
        return found

    @property
    def notes(self) -> list[str]:
        """Sentences that an operator should read, although messages are answered."""
        return self._timekeeper.notes

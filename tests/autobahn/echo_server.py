"""`python -m tests.autobahn.echo_server`: a push server whose answers come from itself.

It is the whole process, with its Redis, its limits and its lanes; only what is behind a request,
Celery and the worker, is replaced. So the suite meets our WebSocket layer, at its own pace, and
each frame that it gets back was written as that of a reply is.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from unittest import mock

import redis

from push_server import app, parts
from push_server.clients.connections import Connection, Connections
from push_server.clients.plain import message_frame
from push_server.requests.forwarder import Forwarder
from push_server.requests.known_application import KnownApplication
from push_server.requests.late_outcomes import LateOutcomes
from queue_run.broker.dispatch import Dispatcher
from queue_run.contracts.envelopes import Outcome, Turn, Work
from queue_run.contracts.keys import Keys
from queue_run.contracts.manifest import Manifest, RouteFacts
from queue_run.contracts.messages import Form, Message
from queue_run.settings import Settings
from queue_run.storage.clock import Clock

#: Each frame is answered before the next is read.
DIRECT = "/direct"
#: Frames go through the lane of their connection: reading pauses while answers are due.
QUEUED = "/queued"
#: Seconds that a turn takes.
DELAY = 0.001

ROUTE = RouteFacts(pattern="/", file="sockets/index.py", fallback=True, timeout=60)


class EchoDispatcher(Dispatcher):
    """Where turns would leave for the workers, their outcomes come back."""

    #: Who takes them.
    settle: Callable[[Outcome], None]

    def start(self) -> None:
        pass

    def submit(self, work: Work, names: Sequence[str] | None = None) -> None:
        assert isinstance(work, Turn), "nobody authenticates here"
        asyncio.get_running_loop().call_later(DELAY, self._answer, work)

    def close(self, timeout: float) -> None:
        pass

    def _answer(self, turn: Turn) -> None:
        for request in turn.requests:
            self.settle(
                Outcome(
                    connection=turn.connection, request=request.id, reply=message_of(request.data)
                )
            )


class EchoForwarder(Forwarder):
    """Answers at once, where the path says so."""

    def __init__(
        self,
        settings: Settings,
        connections: Connections,
        application: KnownApplication,
        dispatcher: EchoDispatcher,
        late_outcomes: LateOutcomes,
        clock: Clock,
    ) -> None:
        super().__init__(settings, connections, application, dispatcher, late_outcomes, clock)
        dispatcher.settle = self.settle

    def receive(self, connection: Connection, data: str | bytes) -> Awaitable[None] | None:
        if connection.path == QUEUED:
            return super().receive(connection, data)
        connection.write(message_frame(message_of(data)))
        return None


def message_of(data: str | bytes) -> Message:
    """What came, as it came: text is not looked into."""
    if isinstance(data, bytes):
        return Message(Form.BINARY, data)
    return Message(Form.TEXT, data.encode())


def offer(settings: Settings) -> None:
    """Leave in Redis what workers would."""
    keys = Keys(settings.namespace)
    with redis.Redis.from_url(settings.redis_url) as client:
        client.set(keys.manifest, Manifest(routes=[ROUTE]).encode())
        client.set(keys.socket_workers, 1)


async def main() -> None:
    settings = Settings.from_env(os.environ)
    logging.basicConfig(level=settings.log_level)
    offer(settings)
    with mock.patch.multiple(parts, Dispatcher=EchoDispatcher, Forwarder=EchoForwarder):
        server = app.PushServer(settings)
    await server.run()


if __name__ == "__main__":
    asyncio.run(main())

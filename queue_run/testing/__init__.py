"""Tests of applications, in one process: no Redis, no Celery, no server.

    from queue_run.testing import connected

    def test_echo():
        with connected(user="ann") as client:
            client.send({"text": "hi"})
            assert client.received == [{"echo": {"text": "hi"}}]

Handlers, middleware, validation and jobs run through the same code as in a worker. pytest finds
the fixtures `queue_run_app` and `connect` by itself.
"""

from queue_run.testing.application import Application, AsyncClient, Client, Connecting, connected
from queue_run.testing.connections import Disconnected
from queue_run.testing.jobs import Pushed

__all__ = [
    "Application",
    "AsyncClient",
    "Client",
    "Connecting",
    "Disconnected",
    "Pushed",
    "connected",
]

"""A whole push server for tests: on a Redis of its own, on any port, with no worker behind it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
from tornado.httpclient import AsyncHTTPClient
from websockets.typing import Subprotocol

from push_server.app import PushServer
from queue_run.contracts.keys import Keys
from queue_run.contracts.manifest import Manifest, QueueFacts
from queue_run.settings import Settings
from tests.unit.push_server.building import INDEX
from tests.waiting import DEADLINE, eventually_async

GRACE = 3.0
ENVELOPED = {"subprotocols": [Subprotocol("queue-run.v1")]}


@pytest.fixture
def settings(fake_redis_url: str, namespace: str, tmp_path: Path) -> Settings:
    (tmp_path / "index.html").write_text("<p>the page")
    return Settings(
        redis_url=fake_redis_url,
        broker_url="memory://",
        namespace=namespace,
        port=0,
        public_dir=str(tmp_path),
        shutdown_grace=GRACE,
        heartbeat_interval=0.05,
    )


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[PushServer]:
    server = PushServer(settings)
    life = await started(server)
    try:
        yield server
    finally:
        server.lifetime.end()
        async with asyncio.timeout(DEADLINE):
            await life


async def started(server: PushServer) -> "asyncio.Task[None]":
    """The life of a server, which takes connections."""
    life = asyncio.create_task(server.run())
    await eventually_async(lambda: life.done() or server.port, what="its port")
    if life.done():
        life.result()
    return life


def address(server: PushServer) -> str:
    return f"ws://127.0.0.1:{server.port}/"


async def status(server: PushServer, path: str) -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{server.port}{path}"
    response = await AsyncHTTPClient().fetch(url, raise_error=False)
    return response.code, response.body


def offer(settings: Settings) -> None:
    """What workers leave in Redis."""
    keys = Keys(settings.namespace)
    with redis.Redis.from_url(settings.redis_url) as client:
        client.set(keys.manifest, Manifest(routes=[INDEX], queues={"mail": QueueFacts()}).encode())
        client.set(keys.socket_workers, "1")

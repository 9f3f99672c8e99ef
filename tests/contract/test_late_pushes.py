"""A push that raised is not made later, whatever holds its bytes up."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from queue_run import queues
from queue_run.errors import InfrastructureError
from queue_run.jobs.groups import Group
from queue_run.process import runtime
from queue_run.process.runtime import Runtime
from queue_run.settings import Settings
from tests.faults.proxy import Proxy
from tests.processes import RedisServer
from tests.waiting import eventually_async

#: Seconds for which a push is tried.
TIMEOUT = 1.0


class World:
    """A process that pushes, and what has come of it in Redis."""

    def __init__(self, server: RedisServer, namespace: str, port: int) -> None:
        self.client: Any = server.client()
        self.runtime = Runtime(
            Settings(
                redis_url=f"redis://127.0.0.1:{port}/0",
                namespace=namespace,
                publish_timeout=TIMEOUT,
            )
        )

    @property
    def keys(self) -> Any:
        return self.runtime.keys

    def push(self, *payloads: int) -> list[int]:
        """Push to a plain queue; those that did not raise."""
        return self._push(queues.get("mail").push, payloads)

    def push_to_group(self, *payloads: int) -> list[int]:
        return self._push(queues.get("ordered").group("g").push, payloads)

    def _push(self, push: Callable[[int], object], payloads: tuple[int, ...]) -> list[int]:
        pushed = []
        for payload in payloads:
            try:
                push(payload)
            except InfrastructureError:
                continue
            pushed.append(payload)
        return pushed

    @property
    def waiting(self) -> int:
        """Jobs with the broker."""
        return int(self.client.llen(self.keys.jobs_queue))

    @property
    def in_group(self) -> int:
        return int(self.client.llen(self.keys.group(Group("ordered", "g").name)))


@pytest.fixture
def frozen(own_redis: RedisServer, namespace: str) -> Iterator[World]:
    world = World(own_redis, namespace, own_redis.port)
    with runtime.using(world.runtime):
        yield world


def patiently(push: Callable[..., list[int]], payload: int) -> None:
    while not push(payload):
        pass


@pytest.mark.parametrize("kind", ["push", "push_to_group"])
def test_pushes_that_a_frozen_redis_did_not_take_are_not_made_when_it_goes_on(
    own_redis: RedisServer, frozen: World, kind: str
) -> None:
    push = getattr(frozen, kind)
    patiently(push, 1)
    own_redis.process.send(signal.SIGSTOP)
    try:
        assert push(2, 3) == []
    finally:
        own_redis.process.send(signal.SIGCONT)
    patiently(push, 4)
    held = frozen.waiting if kind == "push" else frozen.in_group
    assert held == 2


@pytest.mark.parametrize("kind", ["push", "push_to_group"])
async def test_a_push_whose_bytes_are_delayed_is_not_made_later(
    redis_server: RedisServer, namespace: str, kind: str
) -> None:
    async with Proxy(redis_server.port) as proxy:
        world = World(redis_server, namespace, proxy.port)
        push = getattr(world, kind)
        with runtime.using(world.runtime):
            await asyncio.to_thread(patiently, push, 1)
            proxy.delay = 4 * TIMEOUT
            assert await asyncio.to_thread(push, 2) == []
            proxy.delay = 0.0
            await eventually_async(lambda: not proxy.held, what="the bytes that were delayed")
            await asyncio.to_thread(patiently, push, 3)
            assert (world.waiting if kind == "push" else world.in_group) == 2

"""The parts of a push server: who is given whom."""

import asyncio

from push_server.parts import Parts
from push_server.upkeep.lifetime import Lifetime
from queue_run.settings import Settings
from tests.unit.push_server.serving import settings
from tests.waiting import DEADLINE

__all__ = ["settings"]


async def test_parts_are_put_together_without_anything_outside() -> None:
    parts = Parts(Settings(redis_url="redis://127.0.0.1:1/0"), Lifetime())
    assert not parts.delivery.listener.connected


async def test_a_thread_of_a_part_that_ends_ends_the_life_of_all(settings: Settings) -> None:
    lifetime = Lifetime()
    parts = Parts(settings, lifetime)
    parts.requests.dispatcher._thread._on_loss()
    async with asyncio.timeout(DEADLINE):
        await lifetime.ended()
    assert lifetime.lost == "the dispatcher"

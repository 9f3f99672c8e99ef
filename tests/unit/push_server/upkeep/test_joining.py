"""The first steps of a push server on the channel."""

import pytest

from push_server.app import PushServer
from push_server.upkeep.lifetime import CannotStart
from queue_run.settings import Settings


async def test_without_redis_a_push_server_says_what_to_do() -> None:
    with pytest.raises(CannotStart, match=r"does not answer .* start it, or set REDIS_URL"):
        await PushServer(Settings(redis_url="redis://127.0.0.1:1/0")).run()

"""The stream of one push server, in its whole life."""

import redis

from queue_run.contracts.envelopes import Hello, decode
from queue_run.contracts.keys import Keys
from queue_run.settings import Settings
from tests.unit.push_server.serving import running, settings

__all__ = ["settings"]


async def test_the_stream_of_a_push_server_is_there_while_it_runs(settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url) as client:
        async with running(settings) as server:
            stream = Keys(settings.namespace).server(server.parts.ground.id)
            [(_, fields)] = client.xrange(stream)
            assert isinstance(decode(fields[b"e"]), Hello)
            longest = settings.heartbeat_expiry + settings.session_time
            assert settings.session_time - 30 < int(client.ttl(stream)) <= longest
        # It may hold outcomes for clients that resume elsewhere.
        assert 0 < int(client.ttl(stream)) <= settings.session_time

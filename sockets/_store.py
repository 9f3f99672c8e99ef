"""What the demo remembers. Handlers run in several processes, so it is kept in Redis."""

from functools import cache

from redis.asyncio import Redis

from queue_run.process import runtime


@cache
def redis() -> Redis:
    return Redis.from_url(runtime.current().settings.redis_url, decode_responses=True)


def key(*names: str) -> str:
    return ":".join([runtime.current().settings.namespace, "demo", *names])

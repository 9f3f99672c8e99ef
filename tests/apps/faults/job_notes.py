"""What jobs note for the laboratory, in a Redis that is no part of what it breaks."""

import functools
import os

import redis


@functools.cache
def _client() -> "redis.Redis":
    return redis.Redis.from_url(os.environ["LAB_REDIS_URL"])


def ended(kind: str, number: int, group: str = "") -> None:
    """A job's work is done."""
    key = f"{os.environ['QUEUE_RUN_NAMESPACE']}:lab:jobs"
    _client().rpush(key, f"{kind} {number} {group}")

"""Notes that it ran, and fails the first time."""

import os

import redis

from queue_run import Config

config = Config(timeout=5, retries=20, backoff=0.5)
runs = redis.Redis.from_url(os.environ["LAB_REDIS_URL"])
RUNS = f"{os.environ['QUEUE_RUN_NAMESPACE']}:lab:jobs"


def handler(job: int, *, attempt: int) -> None:
    runs.rpush(RUNS, f"retried {job} {attempt}")
    if attempt == 1:
        raise RuntimeError("once more")

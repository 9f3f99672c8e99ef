"""Notes that it ran, after those that were pushed before it."""

import os

import redis

from queue_run import Config

config = Config(timeout=5, fifo=True)
runs = redis.Redis.from_url(os.environ["LAB_REDIS_URL"])
RUNS = f"{os.environ['QUEUE_RUN_NAMESPACE']}:lab:jobs"


def handler(job: int, *, attempt: int) -> None:
    runs.rpush(RUNS, f"ordered {job} {attempt}")

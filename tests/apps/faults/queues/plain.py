"""Notes that it ran."""

import os

import redis

from queue_run import Config

config = Config(timeout=5)
runs = redis.Redis.from_url(os.environ["LAB_REDIS_URL"])
RUNS = f"{os.environ['QUEUE_RUN_NAMESPACE']}:lab:jobs"


def handler(job: int, *, attempt: int) -> None:
    runs.rpush(RUNS, f"plain {job} {attempt}")

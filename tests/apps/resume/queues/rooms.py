"""Lets the user who pushed it join and leave rooms, wherever that user is."""

import os
from typing import Any

import redis

from queue_run import socket

records = redis.Redis.from_url(os.environ["REDIS_URL"])
NAMESPACE = os.environ["QUEUE_RUN_NAMESPACE"]


def handler(job: dict[str, Any]) -> None:
    for step in job["steps"]:
        if "join" in step:
            socket.join(step["join"])
        else:
            socket.leave(step["leave"])
    records.rpush(f"{NAMESPACE}:{job['done']}", "done")

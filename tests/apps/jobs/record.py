"""What the jobs of this application leave in Redis, for the tests to read."""

import functools
import json
import os
import time
import uuid

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from queue_run import Job
from queue_run.process import runtime

#: While a test has killed Redis, a job waits for it as a patient application would.
PAUSE, TRIES = 0.1, 300


@functools.cache
def client() -> "redis.Redis":
    settings = runtime.current().settings
    retry = Retry(ConstantBackoff(PAUSE), TRIES, (redis.ConnectionError, redis.TimeoutError))
    return redis.Redis.from_url(settings.redis_url, decode_responses=True, retry=retry)


def key(name: str) -> str:
    return f"{runtime.current().settings.namespace}:test:{name}"


def note(what: str, **facts: object) -> None:
    """Add to the record. An entry that is written twice, since its confirmation was lost, carries
    the same id."""
    entry = {
        "what": what,
        "id": uuid.uuid4().hex,
        "at": time.time(),
        "pid": os.getpid(),
        "worker": os.environ.get("TEST_WORKER"),
        **facts,
    }
    client().rpush(key("record"), json.dumps(entry))


def note_hook(what: str, job: Job, **facts: object) -> None:
    note(
        what,
        job=job.job_id,
        queue=job.queue_name,
        payload=job.payload,
        attempt=job.attempt,
        user=job.user,
        **facts,
    )

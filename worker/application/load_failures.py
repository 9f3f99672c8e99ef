"""Telling whoever connects in vain why no worker is there: the application cannot be loaded.

Only where clients may see the texts of errors (`expose_errors`, as in `queue-run dev`).
"""

import contextlib
from collections.abc import Iterator

import redis
from redis.exceptions import RedisError

from queue_run.contracts.keys import Keys
from queue_run.errors import ApplicationError
from queue_run.settings import Settings

#: Seconds after which it is old news.
EXPIRY = 3600
#: Seconds for Redis: the end of the process waits for it.
PATIENCE = 2.0


def tell(settings: Settings, error: Exception) -> None:
    """Leave what is wrong for push servers, if they may say it."""
    if settings.expose_errors and isinstance(error, ApplicationError):
        with _redis(settings) as client:
            client.set(Keys(settings.namespace).load_failure, str(error), ex=EXPIRY)


def forget(settings: Settings) -> None:
    """The application could be loaded."""
    if settings.expose_errors:
        with _redis(settings) as client:
            client.delete(Keys(settings.namespace).load_failure)


@contextlib.contextmanager
def _redis(settings: Settings) -> "Iterator[redis.Redis]":
    # Without Redis nobody can connect anyway.
    with (
        contextlib.suppress(RedisError, OSError),
        redis.Redis.from_url(
            settings.redis_url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
        ) as client,
    ):
        yield client

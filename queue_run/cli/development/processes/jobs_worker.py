"""The worker of jobs where the broker is the session's own Redis: `python -m ... CELERY ARGUMENTS`.

A worker that is killed, by a fault or because a change could not wait for its jobs, leaves them
unacknowledged, and Redis hands them out again after the visibility timeout: ten minutes in which
whoever develops wonders where they are. A session has one such worker at a time, so what is
unacknowledged when it starts is nobody's, and goes back on its queue first. A job whose lease is
still held waits for its end, as ever: that of a worker that somebody has started beside the
session is not run twice.
"""

import contextlib
import os
import sys
from typing import Any

from celery.__main__ import main as celery_main
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from queue_run.broker.celery_app import create_celery
from queue_run.settings import Settings


def main() -> None:
    # Without the broker the worker itself says what is wrong.
    with contextlib.suppress(OperationalError, RedisError, OSError):
        put_back(Settings.from_env(os.environ))
    sys.exit(celery_main())


def put_back(settings: Settings) -> int:
    """Put everything unacknowledged back on its queue, to be handed out next; how much it was.

    Raises:
        kombu.exceptions.OperationalError: when the broker does not answer; or RedisError, OSError.
    """
    with create_celery(settings).connection_for_write() as connection:
        # Its own methods are not in kombu's stubs.
        channel: Any = connection.default_channel
        with channel.conn_or_acquire() as client:
            tags = client.zrange(channel.unacked_index_key, 0, -1)
            for tag in tags:
                channel.qos.restore_by_tag(tag, client)
        return len(tags)


if __name__ == "__main__":
    main()

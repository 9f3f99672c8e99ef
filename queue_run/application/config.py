"""`Config`: what a file in `sockets/` or `queues/` may say about its handler."""

from datetime import timedelta
from typing import Literal

import msgspec

from queue_run.application import schedules
from queue_run.contracts.keys import JOBS, RESERVED

#: Seconds that a request may take unless its file says otherwise.
REQUEST_TIMEOUT = 10.0
#: Seconds that a job may take unless its file says otherwise.
JOB_TIMEOUT = 300.0
#: Attempts after the first that a job may have unless its file says otherwise.
JOB_RETRIES = 3
#: Seconds before a job's first retry unless its file says otherwise.
JOB_BACKOFF = 5.0
#: Characters of a name, at most: RabbitMQ takes 255 bytes, the namespace included.
LONGEST_NAME = 40

DataType = Literal["auto", "json", "text", "binary"]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one file, given as `config = Config(...)`. None takes the default.

    Args:
        timeout: seconds that the handler may take (request: 10, job: 300).
        type: sockets only: what a frame must be. "auto" takes JSON text as JSON, other text as
            text and binary frames as bytes; with any other type, a frame that does not fit is
            answered with an error.
        ordered: sockets only: False lets the requests of one connection run side by side.
        retries: queues only: attempts after the first (3), also after one whose worker was killed.
            With 0 a job runs at most once.
        backoff: queues only: seconds before the first retry (5); each further one waits twice as
            long, an hour at most.
        fifo: queues only: jobs are pushed with a group, and those of one group run in order and
            one at a time.
        schedule: queues only: when Celery beat pushes a job: cron text, words like "daily" and
            "every 15 minutes", or a timedelta (`queue_run.application.schedules`).
        celery_queue: queues only: a Celery queue of its own, `<namespace>.<celery_queue>`, which
            workers of their own may serve; "jobs" is the usual one. Names that queue-run or Celery
            uses itself ("sockets", "unacked", …) are refused.
        notify: queues only: tell the user of a job when it has finished, failed or was cancelled.
        http: queues only: "user" lets every logged-in user push by `POST /_/queues/<name>`;
            without it only programs with an API key may.

    Raises:
        ValueError: for a value that cannot be used.
    """

    timeout: float | None = None
    type: DataType | None = None
    ordered: bool | None = None
    retries: int | None = None
    backoff: float | None = None
    fifo: bool | None = None
    schedule: str | timedelta | None = None
    celery_queue: str | None = None
    notify: bool | None = None
    http: Literal["user"] | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise ValueError(f"timeout is a number of seconds above 0, not {self.timeout!r}")
        if self.type not in (None, "auto", "json", "text", "binary"):
            raise ValueError(f'type is "auto", "json", "text" or "binary", not {self.type!r}')
        if self.retries is not None and not _is_count(self.retries):
            raise ValueError(f"retries is a whole number from 0, not {self.retries!r}")
        if self.backoff is not None and not 0 < self.backoff < float("inf"):
            raise ValueError(f"backoff is a number of seconds above 0, not {self.backoff!r}")
        if self.celery_queue is not None and not _is_name(self.celery_queue):
            raise ValueError(
                "celery_queue is a name of letters, digits, '_' and '-', at most "
                f"{LONGEST_NAME}, not {self.celery_queue!r}"
            )
        if self.celery_queue == "sockets":
            raise ValueError(
                'celery_queue is not "sockets": that one carries requests; choose another name'
            )
        # To name the usual one changes nothing.
        if self.celery_queue in RESERVED - {JOBS}:
            raise ValueError(
                f'celery_queue is not "{self.celery_queue}": queue-run and Celery use that name '
                "themselves; choose another name"
            )
        if self.http not in (None, "user"):
            raise ValueError(f'http is "user" or is left out, not {self.http!r}')
        if self.schedule is not None:
            schedules.parse(self.schedule)
        if self.schedule is not None and self.fifo:
            raise ValueError("schedule and fifo exclude each other: a scheduled job has no group")


#: Options that only a file in `sockets/` may set.
SOCKET_ONLY = ("type", "ordered")
#: Options that only a file in `queues/` may set.
JOB_ONLY = ("retries", "backoff", "fifo", "schedule", "celery_queue", "notify", "http")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_name(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= LONGEST_NAME
        and value.replace("_", "").replace("-", "").isalnum()
    )

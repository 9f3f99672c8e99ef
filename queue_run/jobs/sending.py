"""Tasks on their way to the broker: tried over one link after another, for a limited time.

What is raised over a link that is half dead is not only what kombu, py-amqp and redis-py document:
they look into objects that another part of them has closed meanwhile. So whatever a try fails with,
its link is closed, and the next try opens another.
"""

import contextlib
import random
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed, PreconditionFailed
from kombu.exceptions import EncodeError, KombuError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from queue_run.errors import DispatchUnavailable
from queue_run.storage.patience import refusal

if TYPE_CHECKING:
    from celery import Celery

#: What a link may fail with. Nothing of the application's own: a time limit ends a push, too.
FAILURES = (
    *(OSError, KombuError, AMQPError, RedisError),
    *(AttributeError, TypeError, ValueError, LookupError, RuntimeError, struct.error),
)
#: What would be the same over the next link.
REFUSALS = (AccessRefused, NotAllowed, PreconditionFailed)

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5


class TaskSender:
    """Sends tasks; blocks while it does.

    Args:
        celery: gives the Celery application; asked when it is first needed.
        patience: seconds for which a task is tried.
    """

    def __init__(self, celery: "Callable[[], Celery]", patience: float) -> None:
        self._celery = celery
        self._patience = patience

    def send(self, task: str, **options: Any) -> None:
        """Hand a task to the broker.

        Args:
            task: its name.
            options: for `Celery.send_task`.

        Raises:
            DispatchUnavailable: when the broker does not take it in time, or refuses it.
        """
        until = time.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
            try:
                self._try(task, options, until)
                return
            except EncodeError:
                raise
            except FAILURES as error:
                if _is_refused(error) or time.monotonic() + pause > until:
                    raise DispatchUnavailable(f"the broker took no job: {_said(error)}") from error
            time.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _try(self, task: str, options: dict[str, Any], until: float) -> None:
        celery = self._celery()
        producer: Any = celery.amqp.producer_pool.acquire(block=True)
        try:
            link = producer.connection
            try:
                link.ensure_connection(max_retries=0)
                celery.send_task(
                    task,
                    producer=producer,
                    retry=False,
                    # A queue that somebody has deleted: RabbitMQ would drop the task in silence.
                    mandatory=True,
                    confirm_timeout=max(FIRST_PAUSE, until - time.monotonic()),
                    **options,
                )
            except BaseException:
                with contextlib.suppress(*FAILURES):
                    link.collect()
                # Of several brokers, the next one.
                link.maybe_switch_next()
                raise
        finally:
            producer.release()


def _is_refused(error: Exception) -> bool:
    cause = _cause(error)
    if isinstance(cause, RedisError):
        return not isinstance(cause, RedisConnectionError | RedisTimeoutError)
    return isinstance(cause, REFUSALS)


def _said(error: Exception) -> str:
    cause = _cause(error)
    if isinstance(cause, RedisError):
        return refusal(cause)
    if isinstance(cause, PreconditionFailed):
        return f"its queue was declared otherwise by somebody else, delete it there: {cause}"
    if isinstance(cause, OSError | KombuError | AMQPError):
        return str(cause) or type(cause).__name__
    return f"its link broke ({type(cause).__name__}: {cause})"


def _cause(error: Exception) -> BaseException:
    """Unwrap an error that kombu has wrapped."""
    return error.__cause__ or error if isinstance(error, KombuError) else error

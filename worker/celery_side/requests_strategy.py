"""The strategy for batches of requests: they go to the intake as they come from the broker.

Celery would make a request object for each, ask its pool, and trace a task whose only work is to
hand over: most of what a single request costs a worker. Where that hand-over happens in the
worker's own process, there is nothing in it to run elsewhere, retry or time.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery, Task
from celery.concurrency import solo, thread
from celery.worker.strategy import default
from kombu import Message

from queue_run.errors import InvalidEnvelope

log = logging.getLogger(__name__)

#: Pools that run tasks in the worker's own process.
IN_PROCESS = (solo.TaskPool, thread.TaskPool)


def strategy_for(take: Callable[[str], None]) -> Callable[..., Any]:
    """A Celery strategy (`Task.Strategy`) that gives a batch to `take`.

    Where tasks run in other processes, it is Celery's own. Whoever follows Celery's events sees
    each batch.
    """

    def requests_strategy(
        task: "Task[Any, Any]", app: Celery, consumer: Any, **options: Any
    ) -> Callable[..., Any]:
        celerys: Callable[..., Any] = default(task, app, consumer, **options)
        if not isinstance(consumer.pool, IN_PROCESS):
            return celerys

        def received(message: Message, body: Any, *arguments: Any, **named: Any) -> None:
            events = consumer.event_dispatcher
            followed = events is not None and events.enabled
            if followed and isinstance(consumer.pool, solo.TaskPool):
                celerys(message, body, *arguments, **named)
                return
            # Not through the pool: its threads may all have long jobs.
            tell = partial(events.send, uuid=message.headers["id"]) if followed else None
            if tell is not None:
                tell("task-received", name=task.name, args="", kwargs="", retries=0)
                tell("task-started")
            # Nothing to acknowledge on the queue of requests, but on one that was declared before.
            message.ack_log_error(log, consumer.connection_errors)
            # A batch that cannot be read is set aside by the consumer.
            (batch,), *_ = message.payload
            try:
                take(batch)
            except InvalidEnvelope:
                raise
            except Exception:
                # Its clients have their answers at their deadlines.
                log.exception("a batch of requests was lost")
            if tell is not None:
                tell("task-succeeded", result=None, runtime=0.0)

        return received

    return requests_strategy

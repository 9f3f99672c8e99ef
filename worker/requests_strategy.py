"""How a worker takes batches of requests: they go to the intake as they come from the broker.

Celery would make a request object for each, ask its pool, and trace a task whose only work is to
hand over: most of what a single request costs a worker. Where that hand-over happens in the
worker's own process, there is nothing in it to run elsewhere, retry or time.
"""

import logging
from collections.abc import Callable
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

    Where tasks run in other processes, or somebody follows Celery's events, it is Celery's own.
    """

    def requests_strategy(
        task: "Task[Any, Any]", app: Celery, consumer: Any, **options: Any
    ) -> Callable[..., Any]:
        celerys: Callable[..., Any] = default(task, app, consumer, **options)
        if not isinstance(consumer.pool, IN_PROCESS):
            return celerys

        def received(message: Message, body: Any, *arguments: Any, **named: Any) -> None:
            events = consumer.event_dispatcher
            if events is not None and events.enabled:
                celerys(message, body, *arguments, **named)
                return
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

        return received

    return requests_strategy

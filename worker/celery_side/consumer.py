"""The consumer that receives a worker's messages: Celery's, made so that no message can end it.

Celery looks into a message at several places, and each of them takes for granted what a sender of
its own has written. A message that it cannot use is set aside here (`queue_run.broker.unreadable`),
whatever it fails with: the worker goes on with the next one.
"""

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from amqp.exceptions import PreconditionFailed
from celery import Celery, signals
from celery.concurrency import solo
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.request import Request
from celery.worker.state import active_requests
from kombu import Message
from kombu.utils.json import dumps

from queue_run.broker import unreadable
from queue_run.broker.confirmed import ConfirmedConsumer
from queue_run.broker.redis_taking import TakingChannel
from queue_run.broker.redis_transport import RedisChannel
from queue_run.contracts.ids import check_characters
from queue_run.contracts.keys import JOB_TASK_PREFIX, REQUESTS_TASK, Keys
from queue_run.process import runtime
from queue_run.storage.patience import FAILURES, LONGEST_ANSWER
from worker.celery_side import foreign_queues
from worker.jobs.drain_gate import DrainGate

log = logging.getLogger(__name__)

#: The exit code of what cannot work until somebody changes a setting, or what it stands for.
EXIT_CANNOT_WORK = 2
#: Seconds between two ticks of the loop.
TICK = 1.0
#: Seconds without a tick after which this worker counts as one that receives nothing.
SILENCE = 8.0


class Consumer(CeleryConsumer):
    """Receives messages, and sets aside those that are no task."""

    # Celery's, and not in its stubs.
    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]
    controller: Any
    task_consumer: Any
    app: Celery
    pool: Any

    #: When the loop came round last (monotonic).
    _ticked_at = -math.inf
    #: The channel of requests, where jobs are taken beside it.
    _requests: RedisChannel | None = None

    def __init__(
        self, on_task_request: Callable[[Request], object], *arguments: Any, **named: Any
    ) -> None:
        self._drains = DrainGate(on_task_request, self._most_drains)
        super().__init__(self._drains.admit, *arguments, **named)
        if getattr(self.controller, "semaphore", None) is not None:
            # Looked up by Celery for each task.
            self.controller._process_task = partial(
                _give_to_pool, self.controller, self.controller._process_task
            )

    def start(self) -> None:
        """Receive messages until the worker stops.

        Raises:
            SystemExit: where it never could: a queue is none of ours.
        """
        try:
            super().start()
        except PreconditionFailed as error:
            told = foreign_queues.advice(error)
            if told is None:
                raise
            log.critical("%s", told)
            raise SystemExit(EXIT_CANNOT_WORK) from None

    def create_task_handler(self, *arguments: Any, **named: Any) -> Callable[[Message], None]:
        handle = super().create_task_handler(*arguments, **named)

        def received(message: Message) -> None:
            self._drains.go_on()
            if self._requests is not None and message.channel is not self._requests:
                # Requests that have come meanwhile are before a job.
                self._requests.read_now()
            try:
                check_task(message)
                handle(message)
            except self._passing():
                raise
            except Exception as error:
                set_aside(message, error)

        return received

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        set_aside(message, exc)

    def on_unknown_message(self, body: Any, message: Message) -> None:
        set_aside(message, "it names no task")
        signals.task_rejected.send(sender=self, message=message, exc=None)

    def on_invalid_task(self, body: Any, message: Message, exc: Exception) -> None:
        set_aside(message, exc)
        signals.task_rejected.send(sender=self, message=message, exc=exc)

    def on_unknown_task(self, body: Any, message: Message, exc: Exception) -> None:
        name = (message.headers or {}).get("task")
        if isinstance(name, str) and name.startswith(JOB_TASK_PREFIX):
            # Our own come again, to a worker that may have their file (`keep_unknown`).
            super().on_unknown_task(body, message, exc)
        else:
            set_aside(message, f"no file here has its task {name!r}")

    def on_ready(self) -> None:
        self._ticked_at = time.monotonic()
        # All queues are consumed by now.
        apart = self.task_consumer.apart
        if apart is not None and isinstance(apart.channel, RedisChannel):
            apart.channel.has_room = self._has_room
            if self.task_consumer.channel.acknowledges:
                self._requests = apart.channel
                apart.channel.takes_more = self._takes_more
        elif isinstance(apart, ConfirmedConsumer) and self.pool.uses_semaphore:
            apart.when_free = self._when_free
        super().on_ready()

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        hub.call_repeatedly(TICK, self._tick)

    def _tick(self) -> None:
        """Note that the loop that receives messages has come round, unless a link is silent."""
        apart = self.task_consumer.apart
        channels = [each.channel for each in (self.task_consumer, apart) if each is not None]
        if all(getattr(each, "overdue", 0.0) < LONGEST_ANSWER for each in channels):
            self._ticked_at = time.monotonic()

    @property
    def takes(self) -> bool:
        """True while messages are received here; asked from another thread.

        A job in a solo worker holds its loop, and is no fault: it has a time limit.
        """
        if time.monotonic() - self._ticked_at < SILENCE:
            return True
        return isinstance(self.pool, solo.TaskPool) and len(active_requests) > 0

    def on_close(self) -> None:
        self._drains.clear()
        waiting = self._without_process()
        self._requests = None
        super().on_close()
        # Celery drops all that waits for a process, since the broker hands it out again: it has
        # forgotten requests.
        for process, arguments, named in waiting:
            self.controller.semaphore.acquire(process, *arguments, **named)

    def stop(self) -> None:
        # The last is put back first, so that the oldest is the next one.
        for _, (request, *_), _ in reversed(self._without_process()):
            try:
                assert self._requests is not None
                self._requests.give_back(request.message)
            except self._passing() as error:
                # Its clients have their answers at their deadlines.
                log.warning("requests could not be left to other workers: %s", error)
        super().stop()

    def _without_process(self) -> list[Any]:
        """Take batches of requests that came from Redis out of the line for a process.

        RabbitMQ hands its own out again.

        Returns:
            The batches, the oldest first, in the form in which a semaphore has them.
        """
        semaphore = getattr(self.controller, "semaphore", None)
        if semaphore is None or self._requests is None:
            return []
        found = [
            each for each in semaphore._waiting if each[1] and each[1][0].type == REQUESTS_TASK
        ]
        for each in found:
            semaphore._waiting.remove(each)
        return found

    def _has_room(self) -> bool:
        """Tell whether a process is free for a request: else it is left to other workers.

        In the worker's own process there is room for requests beside all jobs.
        """
        return not self.pool.uses_semaphore or self.controller.semaphore.value > 0

    def _when_free(self, take: Callable[[], None]) -> None:
        """Take requests when a process is free: until then other workers get what follows."""

        def is_free() -> None:
            self.controller.semaphore.release()
            take()

        self.controller.semaphore.acquire(is_free)

    def _takes_more(self) -> bool:
        """Tell whether requests behind one that was taken now wait for each other only, and for no
        job.

        A solo worker's loop runs one request before it asks again. Where a process was free for
        the first request, the others are before all jobs. Threads run jobs beside the loop.
        """
        if self.pool.uses_semaphore:
            return not self.controller.semaphore._waiting
        return isinstance(self.pool, solo.TaskPool)

    def _most_drains(self) -> int | None:
        """Count the processes that drains may take in a pool; None for no limit.

        A pool that answers requests and has several processes keeps one of them for requests.
        """
        if not self.pool.uses_semaphore or not serves_requests(self.app):
            return None
        return max(1, int(self.pool.num_processes) - 1)

    def _passing(self) -> tuple[type[BaseException], ...]:
        # kombu counts `KeyError` among these, which a message without a field raises.
        known = {*self.connection_errors, *self.channel_errors} - {KeyError}
        return (*known, *FAILURES)


def serves_requests(app: Celery) -> bool:
    """Tell whether this worker answers requests, beside whatever else it does."""
    queue = Keys(app.conf.task_default_exchange).sockets_queue
    return queue in app.amqp.queues.consume_from


def has_time_for_requests(app: Celery, worker: Any) -> bool:
    """Tell whether requests find a thread or a process of this worker that no drain holds."""
    one_place = issubclass(worker.pool_cls, solo.TaskPool) or (
        worker.pool_cls.uses_semaphore and worker.concurrency == 1
    )
    return not (one_place and serves_requests(app))


def _give_to_pool(controller: Any, give: Callable[[Request], None], request: Request) -> None:
    """Give a task to a pool of processes, where a place is free for it."""
    try:
        give(request)
    except FAILURES:
        raise
    except Exception as error:
        set_aside(request.message, error)
        controller.semaphore.release()


def check_task(message: Message) -> None:
    """Check the parts of a message without which Celery would end.

    Raises:
        TypeError, ValueError: for a message that is no task, or has an id that Redis takes in no
            key.
    """
    headers, body = message.headers or {}, message.payload
    if not isinstance(headers, dict):
        raise TypeError("its headers are no object")
    if isinstance(body, dict):
        # Celery's first protocol has everything in the body.
        arguments, named, embed = body.get("args", []), body.get("kwargs", {}), {}
        headers = {**body, **headers}
    elif isinstance(body, list | tuple) and len(body) == 3:
        arguments, named, embed = body
    else:
        raise ValueError("its body is not [arguments, keyword arguments, options]")
    if not isinstance(arguments, list | tuple) or not isinstance(named, dict):
        raise TypeError("its arguments are not a list and an object")
    if not isinstance(embed or {}, dict):
        raise TypeError("its options are no object")
    if not _are_limits(headers.get("timelimit")):
        raise ValueError("its time limits are not two numbers of seconds")
    check_characters("id", str(headers.get("id", "")))


def _are_limits(limits: object) -> bool:
    """Tell whether these are time limits: any others would end a prefork worker in its timers."""
    if limits is None:
        return True
    return (
        isinstance(limits, list | tuple)
        and len(limits) == 2
        and all(
            each is None or (isinstance(each, int | float) and 0 <= each < float("inf"))
            for each in limits
        )
    )


def set_aside(message: Message, reason: object) -> None:
    """Keep a message in the list of what cannot be read, and take it as settled."""
    channel = message.channel
    source = str((message.delivery_info or {}).get("routing_key"))
    if isinstance(channel, TakingChannel):
        data = dumps(getattr(message, "_raw", None))
        channel.set_aside(data, source=source, reason=reason, tag=message.delivery_tag or "")
        return
    here = runtime.current()
    facts: dict[str, Any] = {"source": source, "reason": reason}
    unreadable.set_aside(here.store.client, here.keys.unreadable, _shown(message), **facts)
    if not message.acknowledged:
        # A rejection would be an error on a queue without acknowledgements.
        message.ack()


def _shown(message: Message) -> str:
    """A message of a broker that has a form of its own for it, as JSON."""
    body: Any = message.body
    whole = {
        "body": body if isinstance(body, str) else body.decode(errors="replace"),
        "content-type": message.content_type,
        "content-encoding": message.content_encoding,
        "headers": message.headers,
        "properties": message.properties,
    }
    return msgspec.json.encode(whole, enc_hook=str).decode()

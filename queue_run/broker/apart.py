"""Queues that are read whatever else a worker holds: those of requests.

A broker gives a channel nothing more once it holds as many unacknowledged messages as its prefetch
allows: kombu so for Redis, and RabbitMQ itself, also from queues without acknowledgements. A worker
of jobs and requests would answer no request while jobs fill all its places. So queues without
acknowledgements are read through a channel of their own; from RabbitMQ by a consumer of their own,
too (`queue_run.broker.confirmed`).
"""

from typing import Any

import kombu
from kombu import Queue

from queue_run.broker import amqp_transport
from queue_run.broker.confirmed import ConfirmedConsumer


class ApartConsumer(kombu.Consumer):
    """A consumer that leaves queues without acknowledgements to a second one."""

    # Of kombu's, and not in its stubs.
    _active_tags: dict[str, str]

    #: The second one, on a channel of its own, once there is such a queue.
    apart: kombu.Consumer | None = None

    def _basic_consume(self, queue: Queue, *args: Any, **kwargs: Any) -> str:
        if not queue.no_ack:
            tag: str = super()._basic_consume(queue, *args, **kwargs)
            return tag
        if queue.name not in self._active_tags:
            apart = self._made_apart()
            apart.on_message = self.on_message
            apart.add_queue(queue)
            apart.consume()
            # As if it were one of our own, for those who ask what is consumed.
            self._active_tags[queue.name] = ""
        return self._active_tags[queue.name]

    def cancel(self) -> None:
        if self.apart is not None:
            for name in [queue.name for queue in self.apart.queues]:
                self._cancel_apart(name)
        super().cancel()

    close = cancel

    def cancel_by_queue(self, queue: Queue | str) -> None:
        self._cancel_apart(queue.name if isinstance(queue, Queue) else queue)
        super().cancel_by_queue(queue)

    def _cancel_apart(self, name: str) -> None:
        if self.apart is not None and self.apart.consuming_from(name):
            self._active_tags.pop(name, None)
            self.apart.cancel_by_queue(name)

    def _made_apart(self) -> kombu.Consumer:
        if self.apart is None:
            assert self.connection is not None
            channel: Any = self.connection.channel()
            # For Redis, which knows no acknowledgements of its own (`redis_transport`).
            channel.beside = self.channel
            kind = kombu.Consumer
            if isinstance(channel, amqp_transport.AmqpChannel):
                kind = ConfirmedConsumer
            self.apart = kind(channel, auto_declare=False, on_decode_error=self.on_decode_error)
            self.apart.accept = self.accept
        return self.apart

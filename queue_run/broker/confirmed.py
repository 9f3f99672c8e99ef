"""Taking requests from RabbitMQ: each runs at most once, and a dead link loses none of them.

RabbitMQ takes a link that has died without an end for alive, for some seconds. Without
acknowledgements it would send requests into it meanwhile, and they would be lost. With one at its
end, a request whose worker was cut off would run twice. Therefore:

    A request that has come is acknowledged, and is given on when RabbitMQ has said that it has read
    that. What was not acknowledged goes back to the queue when its link ends, and nobody has begun
    it.

One acknowledgement, and one question, is for all that has come while the one before was on its way:
under load they cost little. RabbitMQ sends a consumer no more than `PREFETCH` messages that are not
acknowledged, so that a worker that is dead, or busy, holds no more than these.
"""

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import kombu
from kombu import Queue

#: Messages that RabbitMQ sends ahead of their acknowledgement.
PREFETCH = 8


class ConfirmedConsumer(kombu.Consumer):
    """A consumer of requests; its channel is one of `amqp_transport`, of its own."""

    # Of kombu's, and not in its stubs.
    _active_tags: dict[str, str]
    channel: Any

    #: Calls what it is given when a request finds a free place: at once, or later.
    when_free: Callable[[Callable[[], None]], object] | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        #: What has come, and what of it is acknowledged.
        self._arrived: deque[Any] = deque()
        self._acknowledged: list[Any] = []
        self._waits_for_place = False
        self._ended = False
        super().__init__(*arguments, **options)

    def consume(self, no_ack: bool | None = None) -> None:
        """Begin to consume; whoever is given a message has nothing to acknowledge."""
        self._ended = False
        self.channel.basic_qos(0, PREFETCH, False)
        super().consume(no_ack=False)
        self.channel.no_ack_consumers.update(self._active_tags.values())

    def cancel_by_queue(self, queue: Queue | str) -> None:
        """End it: what was acknowledged is given on, the rest goes back to the queue."""
        self._ended = True
        # RabbitMQ's answer follows the one to the acknowledgement that is on its way.
        super().cancel_by_queue(queue)
        arrived, self._arrived = self._arrived, deque()
        if self.channel.connection is not None:
            for message in arrived:
                self.channel.basic_reject(message.delivery_tag, requeue=True)

    def _receive_callback(self, message: Any) -> None:
        self._arrived.append(message)
        self._take()

    def _take(self) -> None:
        """Take what has arrived, when what was taken before is acknowledged."""
        if self._acknowledged or self._waits_for_place or not self._arrived:
            return
        if self.when_free is None:
            self._acknowledge()
        else:
            self._waits_for_place = True
            self.when_free(self._acknowledge)

    def _acknowledge(self) -> None:
        self._waits_for_place = False
        # A place may become free when all is over, or the link is lost.
        if self._ended or not self._arrived or self.channel.connection is None:
            return
        self._acknowledged = list(self._arrived)
        self._arrived.clear()
        # Whoever reads from the link learns that it is lost; this may be called from anywhere.
        with contextlib.suppress(OSError):
            self.channel.acknowledge(self._acknowledged[-1].delivery_tag, self._give_on)

    def _give_on(self) -> None:
        given, self._acknowledged = self._acknowledged, []
        # The next answer is on its way while these are begun.
        self._take()
        failures = []
        for message in given:
            try:
                super()._receive_callback(message)
            except Exception as error:
                # The others are acknowledged, too.
                failures.append(error)
        if failures:
            raise failures[0]

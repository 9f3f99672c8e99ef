"""The dispatch: from a push server to the workers.

Publishing one Celery task costs far more than a request does, so one task carries every request
that arrived while the previous task was being published. Idle, that is one request at once; under
load the cost per request falls towards nothing. A thread owns the broker connection: the event
loop only appends to a queue.
"""

import logging
import math
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import msgspec
from celery import Celery
from kombu import Producer, Queue
from kombu.exceptions import KombuError

from queue_run.contracts.envelopes import Turn, Work, encode_batch
from queue_run.contracts.keys import REQUESTS_TASK
from queue_run.errors import InfrastructureError
from queue_run.storage.clock import Clock
from queue_run.storage.fullness import Fullness, is_full
from queue_run.storage.patience import PROBE_INTERVAL
from queue_run.threads.batching import Batching
from queue_run.threads.vital import VitalThread, end_process

log = logging.getLogger(__name__)

#: Requests in one Celery task, about: more would leave other workers idle.
BATCH_SIZE = 32
#: A batch of so many requests is followed by a pause, in seconds: those that come meanwhile share
#: the next one, which costs little more than one request alone.
BUSY_COUNT, BUSY_PAUSE = 6, 0.003
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


#: Claims the requests of turns by the names that were submitted with each, on the thread of the
#: dispatcher; says for each turn how many of its requests, from the first, may be sent.
Claim: TypeAlias = Callable[[Sequence[tuple[Turn, Sequence[str]]]], Sequence[int]]


class _Item(NamedTuple):
    work: Work
    #: Of the requests of a turn that must be claimed first.
    names: Sequence[str] | None = None


class Dispatcher(Batching[_Item]):
    """Sends work to the workers, in the order in which it was given."""

    def __init__(
        self,
        app: Celery,
        queue_name: str,
        *,
        claim: Claim | None = None,
        clock: Clock | None = None,
        on_loss: Callable[[], None] = end_process,
    ) -> None:
        """
        Args:
            clock: by which work expires; without one, this machine's.
            on_loss: called in the dispatcher's thread when that ends of a defect.
        """
        super().__init__()
        self._app = app
        self._clock = clock or Clock()
        self._queue_name = queue_name
        self._claim = claim
        self._thread = VitalThread(self._run, name="queue-run-dispatch", on_loss=on_loss)
        self._closing = False
        #: When the broker answered last, or this began to ask (monotonic).
        self._reached_at = -math.inf
        #: Whether it has answered over the connection that is there.
        self._is_there = False
        #: Whether it has failed since it answered.
        self._lost = False
        self._fullness = Fullness(log, "requests wait, and get an error when their time is over")

    def start(self) -> None:
        self._reached_at = time.monotonic()
        self._thread.start()

    @property
    def silence(self) -> float:
        """Seconds since the broker has answered over the link of this dispatcher, or since that
        was started."""
        return time.monotonic() - self._reached_at

    def submit(self, work: Work, names: Sequence[str] | None = None) -> None:
        """Queue a turn or an authentication; never blocks.

        Without a broker the dispatcher tries again until the work expires. The code that waits for
        the outcome has a deadline of its own.

        Args:
            work: the turn or the authentication.
            names: the names of a turn's requests, which are claimed before they are sent.
        """
        self._waiting.append(_Item(work, names))
        if not self._woken:
            self._ring()

    def close(self, timeout: float) -> None:
        """Publish what waits and end the thread, within `timeout` seconds."""
        self._closing = True
        self._ring()
        self._thread.join(timeout)
        if self._waiting:
            log.error("%d pieces of work never reached the broker", len(self._waiting))

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not (self._closing and not self._waiting):
            try:
                self._publish_until_closed()
            except Exception as error:
                # The thread serves every connection: no failure may end it.
                if not (self._lost or self._fullness):
                    pause = FIRST_PAUSE
                self._failed(error)
                time.sleep(random.uniform(pause / 2, pause))
                pause = min(pause * 2, LONGEST_PAUSE)
                self._drop_expired()

    def _failed(self, error: Exception) -> None:
        if is_full(error):
            # An answer all the same.
            self._fullness.refused()
            self._reached_at = time.monotonic()
        else:
            self._tell(error)
            self._lost = True
        self._is_there = False

    def _tell(self, error: Exception) -> None:
        if not self._is_passing(error):
            log.exception("publishing to the broker failed unexpectedly")
        elif self._waiting or not self._lost:
            log.warning("lost the broker, trying again: %s", str(error) or type(error))

    def _reached(self) -> None:
        """Note that the broker has answered."""
        self._reached_at = time.monotonic()
        self._is_there = True
        if self._lost:
            self._lost = False
            log.warning("the broker is back")

    def _is_passing(self, error: Exception) -> bool:
        if isinstance(error, OSError | KombuError | InfrastructureError):
            return True
        connection = self._app.connection_for_write()
        return isinstance(error, connection.connection_errors + connection.channel_errors)

    def _publish_until_closed(self) -> None:
        """Publish over one connection, until it breaks or the dispatcher closes."""
        with self._app.connection_for_write() as connection:
            producer = self._app.amqp.Producer(connection, auto_declare=False)
            target = self._app.amqp.queues[self._queue_name]
            declared = False
            while not (self._closing and not self._waiting):
                # At once, before the broker was reached for the first time.
                patience = PROBE_INTERVAL if self._is_there else 0.001
                if not self._waiting and not self._is_woken(patience):
                    # So it is known before somebody waits for it.
                    self._probe(producer)
                    continue
                self._woken = False
                while self._waiting:
                    if not declared:
                        # Once for the connection; Celery would look for each batch.
                        producer.maybe_declare(target)
                        declared = True
                    count = self._publish_batch(producer, target)
                    if count >= BUSY_COUNT and len(self._waiting) < BATCH_SIZE:
                        time.sleep(BUSY_PAUSE)

    def _probe(self, producer: Producer) -> None:
        """Have the broker answer."""
        # Only our own channels can; all are opened by an answer.
        probe = getattr(producer.channel, "probe", None)
        if probe is not None:
            probe()
        self._reached()

    def _publish_batch(self, producer: Producer, target: Queue) -> int:
        """Publish the oldest work; how many pieces it was."""
        batch = self._next_batch()
        try:
            batch = self._claimed(batch)
            if batch:
                self._publish(producer, target, [item.work for item in batch])
                self._reached()
                self._fullness.taken()
        except BaseException:
            # It may have arrived all the same: push servers take only the first outcome.
            self._waiting.extendleft(reversed(batch))
            raise
        return len(batch)

    def _next_batch(self) -> list[_Item]:
        """The oldest work, up to a batch's size; a turn is never split."""
        batch: list[_Item] = []
        size = 0
        now = self._clock.now()
        while self._waiting and size < BATCH_SIZE:
            item = self._waiting.popleft()
            if item.work.expires > now:
                batch.append(item)
                size += len(item.work.requests) if isinstance(item.work, Turn) else 1
        return batch

    def _claimed(self, batch: list[_Item]) -> list[_Item]:
        """The batch without the requests that others have taken, and without those behind them."""
        turns = [
            (item.work, item.names)
            for item in batch
            if isinstance(item.work, Turn) and item.names is not None
        ]
        if not turns or self._claim is None:
            return batch
        taken = iter(self._claim(turns))
        return [each for item in batch if (each := _shortened(item, taken)) is not None]

    def _drop_expired(self) -> None:
        """Drop expired work, so that it does not pile up while the broker is away."""
        now = self._clock.now()
        # One pass over what is here now; the event loop may append meanwhile.
        for _ in range(len(self._waiting)):
            item = self._waiting.popleft()
            if item.work.expires > now:
                self._waiting.append(item)

    def _publish(self, producer: Producer, target: Queue, batch: list[Work]) -> None:
        # The parts of Celery's `apply_async` that matter here, without its cost: a registered
        # task, result backends, signatures. Signals (tracing) are still sent.
        message = self._app.amqp.as_task_v2(
            str(uuid.uuid4()),
            REQUESTS_TASK,
            (encode_batch(batch),),
            ignore_result=True,
            argsrepr="",
            kwargsrepr="",
        )
        self._app.amqp.send_task_message(
            producer,
            REQUESTS_TASK,
            message,
            queue=target,
            serializer="json",
            retry=False,
            declare=[],
            # A queue that somebody has deleted is declared anew, over the next link.
            mandatory=True,
            # What RabbitMQ has not read yet arrives when it reads on: over another link it would
            # come a second time.
            confirm_timeout=math.inf,
        )


def _shortened(item: _Item, taken: Iterator[int]) -> _Item | None:
    """The item with only the requests that were claimed; None if none of them was."""
    if not isinstance(item.work, Turn) or item.names is None:
        return item
    count = next(taken)
    if count == 0:
        return None
    turn = msgspec.structs.replace(item.work, requests=item.work.requests[:count])
    # Once is enough: the batch may have to be sent again.
    return _Item(turn)

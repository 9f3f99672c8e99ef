"""The dispatcher, on a broker in memory. What it promises on real ones is in
tests/contract/test_dispatch.py."""

import math
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from celery import Celery
from kombu import Connection, Producer, Queue
from kombu.exceptions import OperationalError

from queue_run.broker import dispatch
from queue_run.broker.celery_app import create_celery
from queue_run.broker.dispatch import BATCH_SIZE, BUSY_COUNT, BUSY_PAUSE, Dispatcher
from queue_run.contracts.envelopes import Authenticate, Inbound, Turn, Work, decode_batch
from queue_run.contracts.ids import ConnectionId, RequestId, ServerId
from queue_run.contracts.keys import Keys
from queue_run.errors import JobStoreUnavailable
from queue_run.settings import Settings
from tests.waiting import DEADLINE, eventually


def turn(number: int, *, requests: int = 1, expires_in: float = 3600) -> Turn:
    return Turn(
        connection=ConnectionId(f"s-{number}"),
        path="/",
        requests=[Inbound(id=RequestId(f"{number}-{i}"), text="x") for i in range(requests)],
        expires=time.time() + expires_in,
    )


def authentication(number: int) -> Authenticate:
    return Authenticate(
        id=RequestId(f"s-{number}-0"),
        server=ServerId("s"),
        path="/",
        headers=[],
        remote_ip="127.0.0.1",
        expires=time.time() + 3600,
    )


def names(batch: list[Work]) -> list[str]:
    return [each.connection if isinstance(each, Turn) else each.id for each in batch]


class Broker:
    """A broker in this process's memory, and a dispatcher that writes to it."""

    def __init__(self, namespace: str) -> None:
        self.app: Celery = create_celery(Settings(broker_url="memory://", namespace=namespace))
        self.queue = Keys(namespace).sockets_queue
        self.dispatcher = Dispatcher(self.app, self.queue)

    def batches(self, count: int) -> list[list[str]]:
        """The next tasks, each with the names of its work."""
        with self.app.connection_for_read() as connection:
            queue = self.app.amqp.queues[self.queue](connection.default_channel)
            got: list[list[str]] = []

            def take() -> bool:
                message = queue.get(no_ack=True)
                if message is not None:
                    got.append(names(decode_batch(message.payload[0][0])))
                return len(got) >= count

            eventually(take, what=f"{count} tasks")
        return got


@pytest.fixture
def broker(namespace: str) -> Iterator[Broker]:
    broker = Broker(namespace)
    # The queue must exist before anything is published to it.
    with broker.app.connection_for_write() as connection:
        broker.app.amqp.queues[broker.queue](connection.default_channel).declare()
    yield broker
    if broker.dispatcher._thread.ident is not None:
        broker.dispatcher.close(DEADLINE)


def test_what_waits_leaves_together_in_its_order(broker: Broker) -> None:
    broker.dispatcher.submit(turn(1))
    broker.dispatcher.submit(authentication(2))
    broker.dispatcher.submit(turn(3))
    broker.dispatcher.start()
    assert broker.batches(1) == [["s-1", "s-2-0", "s-3"]]


def test_a_batch_has_its_size_and_a_turn_is_never_split(broker: Broker) -> None:
    broker.dispatcher.submit(turn(1, requests=BATCH_SIZE - 1))
    broker.dispatcher.submit(turn(2, requests=BATCH_SIZE))
    broker.dispatcher.submit(turn(3))
    broker.dispatcher.start()
    assert broker.batches(2) == [["s-1", "s-2"], ["s-3"]]


def test_what_comes_later_is_published_as_it_comes(broker: Broker) -> None:
    broker.dispatcher.start()
    broker.dispatcher.submit(turn(1))
    assert broker.batches(1) == [["s-1"]]
    broker.dispatcher.submit(turn(2))
    assert broker.batches(1) == [["s-2"]]


@pytest.mark.parametrize("count", [BUSY_COUNT - 1, BUSY_COUNT])
def test_while_many_come_it_waits_a_moment_for_more(
    broker: Broker, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_sleep = time.sleep
    busy = count >= BUSY_COUNT

    def sleep(seconds: float) -> None:
        if seconds == BUSY_PAUSE:
            for number in (98, 99):
                broker.dispatcher.submit(turn(number))
        else:
            real_sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    for number in range(count):
        broker.dispatcher.submit(turn(number))
    broker.dispatcher.start()
    first = [f"s-{number}" for number in range(count)]
    assert broker.batches(2 if busy else 1) == ([first, ["s-98", "s-99"]] if busy else [first])


def test_what_has_expired_is_not_published(broker: Broker) -> None:
    broker.dispatcher.submit(turn(1, expires_in=-1))
    broker.dispatcher.submit(turn(2))
    broker.dispatcher.start()
    assert broker.batches(1) == [["s-2"]]


class BreakingDispatcher(Dispatcher):
    """Fails some times before it publishes."""

    def __init__(self, app: Celery, queue_name: str, failures: list[Exception]) -> None:
        super().__init__(app, queue_name)
        self.failures = failures

    def _publish_until_closed(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
        super()._publish_until_closed()


@pytest.mark.parametrize(
    ("failure", "logged"),
    [
        (OperationalError("away"), "lost the broker, trying again: away"),
        (ConnectionRefusedError("refused"), "lost the broker, trying again: refused"),
        (LookupError("unforeseen"), "publishing to the broker failed unexpectedly"),
    ],
    ids=repr,
)
def test_a_failure_is_logged_and_the_work_tried_again(
    broker: Broker, failure: Exception, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = BreakingDispatcher(broker.app, broker.queue, [failure])
    dispatcher.submit(turn(1))
    dispatcher.submit(turn(2))
    dispatcher.start()
    assert broker.batches(1) == [["s-1", "s-2"]]
    assert logged in caplog.text
    dispatcher.close(DEADLINE)


class CutBroker(Dispatcher):
    """Loses its connection while it publishes the first batch."""

    def __init__(self, app: Celery, queue_name: str) -> None:
        super().__init__(app, queue_name)
        self.cut = False

    def _publish(self, *arguments: object) -> None:
        if not self.cut:
            self.cut = True
            raise ConnectionResetError("cut")
        super()._publish(*arguments)  # type: ignore[arg-type]


def test_a_batch_that_was_cut_off_goes_first_when_the_broker_is_back(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "BATCH_SIZE", 2)
    dispatcher = CutBroker(broker.app, broker.queue)
    for number in range(4):
        dispatcher.submit(turn(number))
    dispatcher.start()
    assert broker.batches(2) == [["s-0", "s-1"], ["s-2", "s-3"]]
    dispatcher.close(DEADLINE)


def test_while_the_broker_is_away_what_has_expired_is_let_go(broker: Broker) -> None:
    dispatcher = broker.dispatcher
    for number, expires_in in enumerate((3600, -1, 3600)):
        dispatcher.submit(turn(number, expires_in=expires_in))
    dispatcher._drop_expired()
    assert names([item.work for item in dispatcher._waiting]) == ["s-0", "s-2"]


def test_closing_publishes_what_waits_and_ends_the_thread(broker: Broker) -> None:
    broker.dispatcher.start()
    broker.dispatcher.submit(turn(1))
    broker.dispatcher.close(DEADLINE)
    assert broker.batches(1) == [["s-1"]]
    assert "queue-run-dispatch" not in {thread.name for thread in threading.enumerate()}


def test_closing_tells_what_never_reached_the_broker(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = BreakingDispatcher(broker.app, broker.queue, [OSError("away")] * 1000)
    dispatcher.submit(turn(1))
    dispatcher.start()
    dispatcher.close(0.1)
    assert "1 pieces of work never reached the broker" in caplog.text
    dispatcher.failures.clear()
    dispatcher.close(DEADLINE)


def test_a_memory_broker_is_what_these_tests_use(broker: Broker) -> None:
    connection: Connection = broker.app.connection_for_write()
    assert connection.transport_cls == "memory"


# Claims


class Claimer:
    """Lets so many requests of each turn through, and keeps what it was asked for."""

    def __init__(self, *taken: int, failures: int = 0) -> None:
        self.taken = taken
        self.failures = failures
        self.asked: list[list[tuple[str, list[str]]]] = []

    def __call__(self, turns: Sequence[tuple[Turn, Sequence[str]]]) -> list[int]:
        self.asked.append([(turn.connection, list(names)) for turn, names in turns])
        if self.failures:
            self.failures -= 1
            raise JobStoreUnavailable("away")
        return list(self.taken[: len(turns)])


def claiming(broker: Broker, claimer: Claimer) -> Dispatcher:
    broker.dispatcher = Dispatcher(broker.app, broker.queue, claim=claimer)
    return broker.dispatcher


def requests_of(broker: Broker) -> list[list[str]]:
    """The requests of each turn in the next task."""
    with broker.app.connection_for_read() as connection:
        queue = broker.app.amqp.queues[broker.queue](connection.default_channel)
        message = eventually(lambda: queue.get(no_ack=True), what="a task")
    assert message is not None
    batch = decode_batch(message.payload[0][0])
    return [[each.id for each in work.requests] for work in batch if isinstance(work, Turn)]


def test_what_could_not_be_claimed_is_not_published_nor_what_follows_it(broker: Broker) -> None:
    claimer = Claimer(1, 0)
    dispatcher = claiming(broker, claimer)
    dispatcher.submit(turn(1, requests=3), ["a", "b", "c"])
    dispatcher.submit(turn(2))
    dispatcher.submit(turn(3, requests=2), ["d", "e"])
    dispatcher.start()
    assert requests_of(broker) == [["1-0"], ["2-0"]]
    assert claimer.asked == [[("s-1", ["a", "b", "c"]), ("s-3", ["d", "e"])]]


def test_without_names_nothing_is_claimed(broker: Broker) -> None:
    claimer = Claimer()
    dispatcher = claiming(broker, claimer)
    dispatcher.submit(turn(1))
    dispatcher.start()
    assert requests_of(broker) == [["1-0"]]
    assert claimer.asked == []


def test_a_batch_of_which_nothing_could_be_claimed_is_no_task(broker: Broker) -> None:
    dispatcher = claiming(broker, Claimer(0))
    dispatcher.submit(turn(1), ["a"])
    dispatcher.start()
    dispatcher.submit(turn(2))
    assert requests_of(broker) == [["2-0"]]


def test_while_nothing_can_be_claimed_work_waits(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "FIRST_PAUSE", 0.001)
    claimer = Claimer(1, failures=2)
    dispatcher = claiming(broker, claimer)
    dispatcher.submit(turn(1), ["a"])
    dispatcher.start()
    assert requests_of(broker) == [["1-0"]]
    assert len(claimer.asked) == 3


def test_what_was_claimed_is_not_claimed_once_more_when_the_broker_fails(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "FIRST_PAUSE", 0.001)
    claimer = Claimer(1, 0)
    dispatcher = claiming(broker, claimer)
    publish = dispatcher._publish
    failures = [OperationalError("away"), OSError("away")]

    def fail_first(producer: Producer, target: Queue, batch: list[Work]) -> None:
        if failures:
            raise failures.pop()
        publish(producer, target, batch)

    monkeypatch.setattr(dispatcher, "_publish", fail_first)
    dispatcher.submit(turn(1, requests=3), ["a", "b", "c"])
    dispatcher.submit(turn(2), ["d"])
    dispatcher.submit(turn(3))
    dispatcher.start()
    assert requests_of(broker) == [["1-0"], ["3-0"]]
    assert failures == []
    assert claimer.asked == [[("s-1", ["a", "b", "c"]), ("s-2", ["d"])]]


def test_the_broker_is_asked_while_nobody_asks_anything(broker: Broker) -> None:
    dispatcher = broker.dispatcher
    assert dispatcher.silence == math.inf
    dispatcher.start()
    eventually(lambda: dispatcher._is_there, what="the first answer")
    first = dispatcher._reached_at
    eventually(lambda: dispatcher._reached_at > first, what="another one")


def test_it_is_told_once_when_an_idle_dispatcher_loses_the_broker_and_has_it_back(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = [OSError("away")] * 4
    dispatcher = BreakingDispatcher(broker.app, broker.queue, failures)
    dispatcher.start()
    eventually(lambda: dispatcher._is_there, what="an answer")
    assert caplog.text.count("lost the broker") == 1
    assert caplog.text.count("the broker is back") == 1
    dispatcher.close(DEADLINE)

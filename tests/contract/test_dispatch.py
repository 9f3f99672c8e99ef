"""What the dispatch promises, on every Redis it runs on."""

import time
from collections.abc import Iterator

import pytest
from celery import Celery

from queue_run.broker.celery_app import create_celery
from queue_run.broker.dispatch import BATCH_SIZE, Dispatcher
from queue_run.contracts.envelopes import Inbound, Turn, Work, decode_batch
from queue_run.contracts.ids import ConnectionId, RequestId
from queue_run.contracts.keys import REQUESTS_TASK, Keys
from queue_run.settings import Settings
from tests.processes import RedisServer
from tests.waiting import DEADLINE, eventually


def turn(number: int, *, requests: int = 1, expires_in: float = 600) -> Turn:
    return Turn(
        connection=ConnectionId(f"server-{number}"),
        path="/",
        requests=[Inbound(id=RequestId(f"{number}-{i}"), text=f"{i}") for i in range(requests)],
        expires=time.time() + expires_in,
    )


class Broker:
    """A dispatcher's other end: takes tasks off the queue as a worker would."""

    def __init__(self, url: str, namespace: str) -> None:
        self.settings = Settings(redis_url=url, namespace=namespace)
        self.queue = Keys(namespace).sockets_queue
        self.app: Celery = create_celery(self.settings)

    def dispatcher(self) -> Dispatcher:
        dispatcher = Dispatcher(create_celery(self.settings), self.queue)
        dispatcher.start()
        return dispatcher

    def tasks(self, count: int) -> list[list[Work]]:
        """The batches of the next tasks, until they hold `count` turns."""
        batches: list[list[Work]] = []
        with self.app.connection_for_read() as connection:
            queue = self.app.amqp.queues[self.queue](connection.default_channel)

            def take() -> bool:
                message = queue.get(no_ack=True)
                if message is not None:
                    assert message.headers["task"] == REQUESTS_TASK
                    batches.append(decode_batch(message.payload[0][0]))
                return sum(len(batch) for batch in batches) >= count

            eventually(take, what=f"{count} turns")
        return batches


@pytest.fixture
def broker(redis_url: str, namespace: str) -> Broker:
    return Broker(redis_url, namespace)


@pytest.fixture
def dispatcher(broker: Broker) -> Iterator[Dispatcher]:
    dispatcher = broker.dispatcher()
    yield dispatcher
    dispatcher.close(DEADLINE)


def test_a_turn_reaches_the_workers_queue_unchanged(broker: Broker, dispatcher: Dispatcher) -> None:
    sent = Turn(
        connection=ConnectionId("server-1"),
        path="/chat",
        query="user=ann",
        requests=[
            Inbound(id=RequestId("a"), text='{"n": "ü"}'),
            Inbound(id=RequestId("b"), binary=b"\x00\xff"),
        ],
        expires=time.time() + 600,
    )
    dispatcher.submit(sent)
    [[got]] = broker.tasks(1)
    assert isinstance(got, Turn)
    assert (got.connection, got.path, got.query) == ("server-1", "/chat", "user=ann")
    assert [each.data for each in got.requests] == ['{"n": "ü"}', b"\x00\xff"]


def test_work_keeps_its_order(broker: Broker, dispatcher: Dispatcher) -> None:
    for number in range(200):
        dispatcher.submit(turn(number))
    got = [work for batch in broker.tasks(200) for work in batch]
    assert [work.connection for work in got if isinstance(work, Turn)] == [
        f"server-{number}" for number in range(200)
    ]


def test_what_waits_shares_a_task_up_to_its_size(broker: Broker) -> None:
    dispatcher = Dispatcher(create_celery(broker.settings), broker.queue)
    for number in range(BATCH_SIZE * 2 + 1):
        dispatcher.submit(turn(number))
    dispatcher.start()
    assert [len(batch) for batch in broker.tasks(BATCH_SIZE * 2 + 1)] == [BATCH_SIZE, BATCH_SIZE, 1]
    dispatcher.close(DEADLINE)


def test_a_turn_is_never_split(broker: Broker) -> None:
    dispatcher = Dispatcher(create_celery(broker.settings), broker.queue)
    dispatcher.submit(turn(1, requests=BATCH_SIZE - 1))
    dispatcher.submit(turn(2, requests=20))
    dispatcher.submit(turn(3))
    dispatcher.start()
    assert [len(batch) for batch in broker.tasks(3)] == [2, 1]
    dispatcher.close(DEADLINE)


def test_closing_publishes_what_waits(broker: Broker) -> None:
    dispatcher = broker.dispatcher()
    for number in range(50):
        dispatcher.submit(turn(number))
    dispatcher.close(DEADLINE)
    assert sum(len(batch) for batch in broker.tasks(50)) == 50


def test_work_that_has_expired_is_not_published(broker: Broker) -> None:
    dispatcher = Dispatcher(create_celery(broker.settings), broker.queue)
    dispatcher.submit(turn(1, expires_in=-1))
    dispatcher.submit(turn(2))
    dispatcher.start()
    [[got]] = broker.tasks(1)
    assert isinstance(got, Turn)
    assert got.connection == "server-2"
    dispatcher.close(DEADLINE)


def test_work_submitted_while_the_broker_is_away_arrives_when_it_is_back(
    own_redis: RedisServer, namespace: str
) -> None:
    broker = Broker(own_redis.url, namespace)
    dispatcher = broker.dispatcher()
    dispatcher.submit(turn(1))
    assert len(broker.tasks(1)) == 1
    own_redis.kill()
    dispatcher.submit(turn(2))
    dispatcher.submit(turn(3))
    own_redis.start()
    got: list[str] = []
    while "server-3" not in got:
        [batch] = broker.tasks(1)
        got += [work.connection for work in batch if isinstance(work, Turn)]
    # The broker may have gone before it said that it has the first.
    assert got[-2:] == ["server-2", "server-3"]
    assert set(got[:-2]) <= {"server-1"}
    dispatcher.close(DEADLINE)


def test_work_waits_for_room_in_a_full_redis_and_the_broker_does_not_count_as_away(
    own_redis: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(own_redis.url, namespace)
    dispatcher = broker.dispatcher()
    eventually(lambda: dispatcher.silence < 1, what="the broker")
    with own_redis.client() as admin:
        admin.config_set("maxmemory", "1")
        dispatcher.submit(turn(1))

        def refusals() -> int:
            return int(admin.info("errorstats").get("errorstat_OOM", {"count": 0})["count"])

        first = eventually(refusals, what="a refusal")
        # Each try is several commands.
        eventually(lambda: refusals() > first + 20, what="more of them")
        assert dispatcher.silence < 5
        admin.config_set("maxmemory", "0")
    [[sent]] = broker.tasks(1)
    assert isinstance(sent, Turn)
    assert sent.connection == "server-1"
    dispatcher.close(DEADLINE)
    lines = [line for line in caplog.messages if "broker" in line or "Redis" in line]
    assert [line.partition(":")[0] for line in lines] == ["Redis is full", "Redis has room again"]

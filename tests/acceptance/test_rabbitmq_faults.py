"""What RabbitMQ does to its clients: alarms, closed links, deleted queues, restarts, absence.

All tests share one broker, and most of them one stack, whose processes run on through everything.
"""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection, Queue
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from queue_run import queues
from queue_run.errors import DispatchUnavailable
from tests.acceptance.job_record import pushing_to
from tests.conftest import new_namespace, write_files
from tests.processes import RedisServer, Stack
from tests.rabbitmq import RabbitMQ
from tests.waiting import DEADLINE, eventually

APP = {
    "sockets/index.py": """
import os
import redis

client = redis.Redis.from_url(os.environ["REDIS_URL"])
key = os.environ["TEST_KEY"]

def handler(data):
    client.rpush(key + ":asked", str(data["n"]))
    return data
""",
    "queues/work.py": """
import os
import redis

client = redis.Redis.from_url(os.environ["REDIS_URL"])
key = os.environ["TEST_KEY"]

def handler(job):
    client.rpush(key + ":ran", str(job))
""",
}
POOLS = (("-P", "solo"), ("-P", "prefork", "-c", "2"), ("-P", "threads", "-c", "2"))
#: Seconds within which requests and jobs are back when the fault is over.
BACK_WITHIN = 15.0
#: Seconds for which a push is tried.
PUBLISH_TIMEOUT = 2.0
#: Seconds after which who has just come and is not answered asks anew.
TRY = 2.0


class Bench:
    """A push server, a worker of each pool, and what they have run."""

    def __init__(self, stack: Stack, client: "redis.Redis", key: str) -> None:
        self.stack = stack
        self._client = client
        self._key = key
        self._number = 0

    def next(self) -> int:
        """A number that no request and no job has had."""
        self._number += 1
        return self._number

    def count(self, what: str) -> Counter[int]:
        """How often what has run, by number."""
        found: Any = self._client.lrange(f"{self._key}:{what}", 0, -1)
        return Counter(int(each) for each in found)

    def wait_for(self, job: int) -> None:
        eventually(lambda: self.count("ran")[job], what=f"job {job}")

    def ask(self, timeout: float = DEADLINE) -> None:
        """Be answered, as a client that has just come.

        Raises:
            TimeoutError: when there is no answer in time, or an error.
        """
        with connect(self.stack.ws(), open_timeout=timeout) as ann:
            asked = {"n": self.next()}
            ann.send(json.dumps(asked))
            answer = json.loads(ann.recv(timeout=timeout))
        if answer != asked:
            raise TimeoutError(answer)

    def wait_until_back(self) -> float:
        """Return when requests are answered and jobs run again, and after how many seconds."""
        began = time.monotonic()
        with ThreadPoolExecutor(2) as both:
            for each in (both.submit(self._asks_again), both.submit(self._pushes_again)):
                each.result()
        return time.monotonic() - began

    def _asks_again(self) -> None:
        eventually(lambda: _succeeds(lambda: self.ask(TRY)), what="requests to be answered")

    def _pushes_again(self) -> None:
        job = self.next()

        def push() -> None:
            queues.get("work").push(job)

        eventually(lambda: _succeeds(push), what="a push")
        self.wait_for(job)

    @property
    def pids(self) -> list[int]:
        processes = (*self.stack.push_servers, *self.stack.workers)
        return [each.pid for each in processes if each.running]


def _succeeds(do: Callable[[], object]) -> bool:
    try:
        do()
    except (OSError, WebSocketException, DispatchUnavailable):
        return False
    return True


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    broker = RabbitMQ()
    yield broker
    broker.end()


def a_stack(redis_server: RedisServer, rabbitmq: RabbitMQ, folder: Path) -> Bench:
    app = write_files(folder / "app", APP)
    key = f"rabbitmq-{new_namespace()}"
    stack = Stack(
        redis_server.url,
        app,
        new_namespace(),
        TEST_KEY=key,
        BROKER_URL=rabbitmq.url,
        QUEUE_RUN_PUBLISH_TIMEOUT=str(PUBLISH_TIMEOUT),
    )
    return Bench(stack, redis_server.client(), key)


@pytest.fixture(scope="module")
def running(
    redis_server: RedisServer, rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    bench = a_stack(redis_server, rabbitmq, tmp_path_factory.mktemp("rabbitmq"))
    stack = bench.stack
    stack.push_server()
    for pool in POOLS:
        stack.worker(*pool)
    stack.wait_until_ready()
    yield bench
    print(stack.logs())  # noqa: T201
    stack.end()


@pytest.fixture
def bench(running: Bench) -> Iterator[Bench]:
    """Requests and jobs work before a test and after it, in the same processes; none runs twice."""
    with pushing_to(running.stack):
        running.wait_until_back()
        before = running.pids
        yield running
        took = running.wait_until_back()
        print(f"requests and jobs are back after {took:.1f} s")  # noqa: T201
        assert took < BACK_WITHIN
        assert running.pids == before
        for what in ("asked", "ran"):
            assert not [n for n, times in running.count(what).items() if times > 1], what


def test_a_push_that_a_full_rabbitmq_did_not_confirm_is_not_made_when_it_goes_on(
    bench: Bench, rabbitmq: RabbitMQ
) -> None:
    """Requests that it did not read run once, or not at all."""
    rabbitmq.fill_memory()
    try:
        refused = [bench.next() for _ in range(2)]
        with ThreadPoolExecutor(1) as asker:
            answer = asker.submit(bench.ask)
            for job in refused:
                with pytest.raises(DispatchUnavailable, match="RabbitMQ takes no messages now"):
                    queues.get("work").push(job)
            assert not answer.done()
            rabbitmq.free_memory()
            # What the push server has sent is still in time.
            answer.result()
    finally:
        rabbitmq.free_memory()
    # RabbitMQ gets them all the same.
    dropped = "came after its push had failed, and is dropped"
    eventually(
        lambda: bench.stack.logs().count(dropped) >= len(refused), what="jobs that come too late"
    )
    assert not [job for job in refused if bench.count("ran")[job]]


def test_all_links_are_closed(bench: Bench, rabbitmq: RabbitMQ) -> None:
    rabbitmq.control("close_all_connections", "for a test")


def test_queues_are_deleted(bench: Bench, rabbitmq: RabbitMQ) -> None:
    """Nothing is published into the void: who publishes declares the queue anew."""
    namespace = bench.stack.namespace
    for name in ("sockets", "jobs"):
        rabbitmq.control("delete_queue", f"{namespace}.{name}")
    job = bench.next()
    queues.get("work").push(job)
    bench.ask()
    bench.wait_for(job)


def test_it_is_restarted_and_what_starts_meanwhile_waits_for_it(
    bench: Bench, redis_server: RedisServer, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    other = a_stack(redis_server, rabbitmq, tmp_path)
    rabbitmq.stop()
    try:
        server = other.stack.push_server()
        worker = other.stack.worker(*POOLS[0])
        with pytest.raises(DispatchUnavailable, match="the broker took no job"):
            queues.get("work").push(bench.next())
        server.wait_for_output("lost the broker")
        worker.wait_for_output("Cannot connect to amqp://")
    finally:
        rabbitmq.start()
    other.stack.wait_until_ready()
    with pushing_to(other.stack):
        other.wait_until_back()
    assert other.pids == [server.pid, worker.pid]
    other.stack.end()


def test_a_policy_that_bounds_a_queue_refuses_pushes(
    running: Bench, redis_server: RedisServer, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    other = a_stack(redis_server, rabbitmq, tmp_path)
    bound = json.dumps({"max-length": 1, "overflow": "reject-publish"})
    pattern = f"^{other.stack.namespace}"
    rabbitmq.control("set_policy", "--apply-to", "queues", other.stack.namespace, pattern, bound)
    with pushing_to(other.stack):
        queues.get("work").push(1)
        with pytest.raises(DispatchUnavailable, match="did not take it: a policy bounds its queue"):
            queues.get("work").push(2)


def test_what_a_dead_worker_was_sent_is_run_by_another_and_nothing_twice(
    bench: Bench, rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path: Path
) -> None:
    """RabbitMQ takes the links of frozen workers for alive, and fills them first."""
    for worker in bench.stack.workers[1:]:
        worker.send(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(40) as askers:
            for answer in [askers.submit(bench.ask) for _ in range(40)]:
                answer.result()
    finally:
        for worker in bench.stack.workers[1:]:
            worker.send(signal.SIGCONT)


def test_a_queue_that_somebody_has_declared_otherwise_is_named(
    running: Bench, redis_server: RedisServer, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    other = a_stack(redis_server, rabbitmq, tmp_path)
    name = f"{other.stack.namespace}.jobs"
    with Connection(rabbitmq.url) as connection:
        Queue(name, queue_arguments={"x-max-length": 9})(connection.channel()).declare()
    with (
        pushing_to(other.stack),
        pytest.raises(DispatchUnavailable, match=f"declared otherwise.*{name}"),
    ):
        queues.get("work").push(1)


@pytest.mark.parametrize("which", ["jobs", "sockets"])
@pytest.mark.parametrize("pool", POOLS[:2], ids=lambda pool: pool[1])
def test_a_worker_says_which_queue_is_none_of_ours_and_ends(
    redis_server: RedisServer,
    rabbitmq: RabbitMQ,
    tmp_path: Path,
    pool: tuple[str, ...],
    which: str,
) -> None:
    app = write_files(tmp_path / "app", APP)
    stack = Stack(
        redis_server.url, app, new_namespace(), BROKER_URL=rabbitmq.url, TEST_KEY="unused"
    )
    name = f"{stack.namespace}.{which}"
    with Connection(rabbitmq.url) as connection:
        arguments = {"x-queue-type": "quorum"}
        Queue(name, durable=True, queue_arguments=arguments)(connection.channel()).declare()
    try:
        worker = stack.worker(*pool)
        # As for other settings that cannot work.
        assert worker.wait() == 2
        assert f"RabbitMQ has the queue {name}, which somebody declared otherwise" in worker.output
        assert "x-queue-type: received none but current is" in worker.output
        assert "Traceback" not in worker.output
    finally:
        stack.end()

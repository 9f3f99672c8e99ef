"""A worker of requests and jobs answers requests while its places are full of jobs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from websockets.sync.client import connect

from queue_run import queues
from tests.acceptance.job_record import pushing_to
from tests.conftest import new_namespace, write_files
from tests.processes import RedisServer, Stack
from tests.rabbitmq import RabbitMQ
from tests.waiting import DEADLINE, eventually

#: A job notes that it has begun, and ends when the test lets it.
JOB = """
import os, time
import redis
from queue_run import Config

config = Config(timeout=300, fifo={fifo})
client = redis.Redis.from_url(os.environ["REDIS_URL"])
key = os.environ["TEST_KEY"]

def handler(job):
    client.rpush(key + ":begun", str(job))
    while job != "short" and not client.exists(key + ":may-end"):
        time.sleep(0.01)
    time.sleep(0.05 if job == "short" else 0)
    client.rpush(key + ":ended", str(job))
"""
APP = {
    "sockets/index.py": "async def handler(data): return data",
    "sockets/_middleware.py": "async def on_authenticate(request): return {'id': 'ann'}",
    "queues/work.py": JOB.format(fifo=False),
    "queues/ordered.py": JOB.format(fifo=True),
}

THREADS = ("-P", "threads", "-c", "2")
PREFORK = ("-P", "prefork", "-c", "2")
SOLO = ("-P", "solo")


class Bench:
    """A stack whose workers serve requests and jobs; jobs end when they are let."""

    def __init__(self, stack: Stack, client: "redis.Redis", key: str) -> None:
        self.stack = stack
        self.client = client
        self.key = key

    def start(self, *pool: str, queues: str = "") -> None:
        self.stack.worker(*pool, queues=queues)
        self.stack.wait_until_ready()

    def noted(self, what: str) -> list[Any]:
        found = self.client.lrange(f"{self.key}:{what}", 0, -1)
        assert isinstance(found, list)
        return found

    def wait_until_begun(self, count: int) -> None:
        eventually(lambda: len(self.noted("begun")) >= count, what=f"{count} jobs")

    def let_end(self, count: int) -> None:
        self.client.set(f"{self.key}:may-end", 1)
        eventually(lambda: len(self.noted("ended")) == count, what=f"the end of {count} jobs")
        self.client.delete(*(f"{self.key}:{each}" for each in ("begun", "ended", "may-end")))

    @property
    def readers(self) -> int:
        """Links that wait for messages of Celery."""
        # The letter stands for a client that is blocked.
        return sum(
            each["cmd"] == "brpop" and "b" in each["flags"] for each in self.client.client_list()
        )

    def ask(self, text: str = "hello") -> None:
        """A whole exchange, its handshake included."""
        with connect(self.stack.ws(), open_timeout=DEADLINE) as ann:
            ann.send(text)
            assert ann.recv(timeout=DEADLINE) == text


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    broker = RabbitMQ()
    yield broker
    broker.end()


@pytest.fixture(params=["redis", "rabbitmq"])
def bench(
    own_redis: RedisServer, request: pytest.FixtureRequest, tmp_path_factory: Any
) -> Iterator[Bench]:
    variables = {}
    if request.param == "rabbitmq":
        variables["BROKER_URL"] = request.getfixturevalue("rabbitmq").url
    app = write_files(tmp_path_factory.mktemp("beside") / "app", APP)
    key = f"beside-{new_namespace()}"
    # A request that waits for a long job is not answered within these.
    variables["QUEUE_RUN_AUTHENTICATE_TIMEOUT"] = str(DEADLINE)
    stack = Stack(own_redis.url, app, new_namespace(), TEST_KEY=key, **variables)
    stack.push_server()
    with pushing_to(stack):
        yield Bench(stack, own_redis.client(), key)
    print(stack.logs())  # noqa: T201
    stack.end()


#: What is the same with both brokers need not be shown twice.
REDIS_ONLY = pytest.mark.parametrize("bench", ["redis"], indirect=True)


def test_threads_that_all_hold_a_job_keep_no_request_waiting(bench: Bench) -> None:
    bench.start(*THREADS)
    for name in ("work", "ordered"):
        # More than there are threads, and than are prefetched.
        for n in range(6):
            queue = queues.get(name) if name == "work" else queues.get(name).group(n)
            queue.push(f"job {n}")
        bench.wait_until_begun(2)
        bench.ask()
        assert bench.noted("ended") == []
        bench.let_end(6)


@REDIS_ONLY
def test_threads_whose_events_are_followed_keep_no_request_waiting(bench: Bench) -> None:
    bench.start(*THREADS, "-E")
    for n in range(4):
        queues.get("work").push(f"job {n}")
    bench.wait_until_begun(2)
    bench.ask()
    assert bench.noted("ended") == []
    bench.let_end(4)


@REDIS_ONLY
def test_a_free_process_answers_requests(bench: Bench) -> None:
    bench.start(*PREFORK)
    queues.get("work").push("long")
    bench.wait_until_begun(1)
    for _ in range(5):
        bench.ask()
    assert bench.noted("ended") == []
    bench.let_end(1)


def test_drains_leave_one_process_to_requests(bench: Bench) -> None:
    bench.start(*PREFORK)
    for n in range(6):
        queues.get("ordered").group(n).push(f"group {n}")
    bench.wait_until_begun(1)
    for _ in range(5):
        bench.ask()
    assert len(bench.noted("begun")) == 1
    # Those that waited run when there is room, one after another.
    bench.let_end(6)


@REDIS_ONLY
def test_a_worker_of_jobs_alone_lets_drains_have_all_its_processes(bench: Bench) -> None:
    bench.start(*SOLO, queues="sockets")
    bench.start(*PREFORK, queues="jobs")
    for n in range(3):
        queues.get("ordered").group(n).push(f"group {n}")
    bench.wait_until_begun(2)
    bench.let_end(3)


@REDIS_ONLY
def test_requests_that_find_no_free_process_are_left_to_other_workers(bench: Bench) -> None:
    """RabbitMQ sends some of them ahead, whether the worker is free or not."""
    bench.start(*PREFORK)
    for n in range(2):
        queues.get("work").push(f"job {n}")
    bench.wait_until_begun(2)
    # It had asked for requests before its processes were taken.
    eventually(lambda: not bench.readers, what="the worker to ask for nothing")
    with ThreadPoolExecutor(1) as asker:
        answer = asker.submit(bench.ask)
        bench.start(*SOLO, queues="sockets")
        answer.result(DEADLINE)
    assert bench.noted("ended") == []
    bench.let_end(2)


ONE_PLACE = pytest.mark.parametrize(
    "pool", [SOLO, ("-P", "prefork", "-c", "1")], ids=["solo", "prefork"]
)


@REDIS_ONLY
@ONE_PLACE
@pytest.mark.parametrize("name", ["work", "ordered"])
def test_requests_that_have_come_during_a_job_are_answered_after_it(
    bench: Bench, name: str, pool: tuple[str, ...]
) -> None:
    """Were one taken after each job, the last would wait for as many jobs."""
    bench.start(*pool)
    with ExitStack() as ending:
        clients = [
            ending.enter_context(connect(bench.stack.ws(), open_timeout=DEADLINE))
            for _ in range(20)
        ]
        for n, job in enumerate(["long", *["short"] * 100]):
            queue = queues.get(name)
            (queue.group(f"{n}") if name == "ordered" else queue).push(job)
        bench.wait_until_begun(1)
        # It had asked for a request before the job began, and would still be given one.
        eventually(lambda: not bench.readers, what="the worker to ask for nothing")
        requests = f"{bench.stack.namespace}.sockets"
        for n, client in enumerate(clients):
            client.send(f"request {n}")
            # Each is a message of Celery's.
            eventually(lambda n=n: bench.client.llen(requests) > n, what="a message")  # type: ignore[misc]
        bench.client.set(f"{bench.key}:may-end", 1)
        answers = [client.recv(timeout=DEADLINE) for client in clients]
        begun = len(bench.noted("begun"))
    assert answers == [f"request {n}" for n in range(20)]
    assert begun < 10
    bench.let_end(101)


@ONE_PLACE
def test_a_group_gives_way_to_requests_after_each_job(bench: Bench, pool: tuple[str, ...]) -> None:
    bench.start(*pool)
    # Twenty seconds of work: a drain that gave no way would go on for five, a hundred jobs.
    for _ in range(400):
        queues.get("ordered").group("g").dedupe(new_namespace()).push("short")
    bench.wait_until_begun(1)
    # So every time; that a busy machine lets the client itself wait happens now and then.
    before = []
    for _ in range(3):
        begun = len(bench.noted("begun"))
        bench.ask()
        before.append(len(bench.noted("begun")) - begun)
    assert min(before) < 60, before

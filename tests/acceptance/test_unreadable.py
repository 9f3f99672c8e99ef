"""What nobody can read, in the broker and in Redis, ends no worker and holds up nothing else."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Exchange, Producer

from queue_run import queues
from tests.acceptance.job_record import pushing_to
from tests.clients import connected
from tests.conftest import NewStack, WriteApp, new_namespace
from tests.processes import RedisServer, Stack
from tests.rabbitmq import RabbitMQ
from tests.waiting import eventually

APP = {
    "sockets/index.py": "async def handler(data): return {'echo': data}",
    "sockets/_middleware.py": "async def on_authenticate(request): return {'id': 'ann'}",
    "queues/work.py": """
import os
import redis

def handler(job):
    redis.Redis.from_url(os.environ["REDIS_URL"]).rpush(os.environ["TEST_DONE"], str(job))
""",
    "queues/ordered.py": """
import os
import redis
from queue_run import Config

config = Config(fifo=True)

def handler(job):
    redis.Redis.from_url(os.environ["REDIS_URL"]).rpush(os.environ["TEST_DONE"], str(job))
""",
}

POOLS = [
    pytest.param(("-P", "solo"), id="solo"),
    pytest.param(("-P", "threads", "-c", "2"), id="threads"),
    pytest.param(("-P", "prefork", "-c", "2"), id="prefork"),
]

#: Messages that are JSON for kombu, and no task for Celery: headers and body.
NO_TASKS: list[tuple[Any, Any]] = [
    ({}, 5),
    ({}, []),
    ({}, {"task": 5}),
    ({}, {"task": "queues.work"}),
    ({}, {"task": "queues.work", "id": "1", "args": 5}),
    ({"task": "queues.work"}, [[1], {}, {}]),
    ({"task": "queues.work", "id": "2"}, 5),
    ({"task": "queues.work", "id": "3"}, [1]),
    ({"task": "queues.work", "id": "4"}, [1, 2, 3]),
    ({"task": "queues.work", "id": "5"}, [[1], [], {}]),
    ({"task": "queues.work", "id": "6"}, [[1], {}, 5]),
    ({"task": "queues.work", "id": "7", "timelimit": "soon"}, [[1], {}, {}]),
    ({"task": "queues.work", "id": "8", "timelimit": ["a", "b"]}, [[1], {}, {}]),
    ({"task": "queues.work", "id": "9", "eta": "soon"}, [[1], {}, {}]),
    ({"task": "queues.work", "id": "10", "stamped_headers": 5}, [[1], {}, {}]),
    ({"task": "nobody.knows", "id": "11"}, [[], {}, {}]),
    ({"task": ["queues.work"], "id": "12"}, [[1], {}, {}]),
    ({"task": "queue_run.requests", "id": "13"}, [[], {}, {}]),
    ({"task": "queue_run.requests", "id": "14"}, [["1[5]"], {}, {}]),
    ({"task": "queue_run.requests", "id": "15"}, [[{"a": 1}], {}, {}]),
    ({"task": "queue_run.drain", "id": "16"}, [[5, {}], {}, {}]),
    ({"task": "queue_run.drain", "id": "17"}, [["nobody", "knows"], {}, {}]),
]


class Bench:
    """A stack, and what its jobs have noted."""

    def __init__(self, stack: Stack, client: "redis.Redis", done: str) -> None:
        self.stack = stack
        self.client = client
        self._done = done

    async def works(self) -> None:
        """Requests are answered and jobs are run."""
        async with connected(self.stack.ws()) as ann:
            await ann.send("hello")
            assert await ann.receive() == {"echo": "hello"}
        await asyncio.to_thread(self._run_jobs)
        assert all(worker.running for worker in self.stack.workers)

    def _run_jobs(self) -> None:
        self.client.delete(self._done)
        with pushing_to(self.stack):
            for n in range(4):
                queues.get("work").push(n)
        eventually(lambda: self.done >= {str(n) for n in range(4)}, what="the jobs")

    @property
    def done(self) -> set[Any]:
        found = self.client.lrange(self._done, 0, -1)
        assert isinstance(found, list)
        return set(found)

    @property
    def unreadable(self) -> list[dict[str, Any]]:
        found = self.client.lrange(f"{self.stack.namespace}:unreadable", 0, -1)
        assert isinstance(found, list)
        return [json.loads(each) for each in found]


def bench_on(
    server: RedisServer, new_stack: NewStack, write_app: WriteApp, pool: tuple[str, ...], **env: str
) -> Bench:
    done = f"done-{new_namespace()}"
    stack = new_stack(server, write_app(APP), TEST_DONE=done, **env)
    stack.push_server()
    stack.worker(*pool)
    stack.wait_until_ready()
    return Bench(stack, server.client(), done)


def raw(**changes: Any) -> str:
    whole = {
        "body": base64.b64encode(b"[[], {}, {}]").decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "queues.work", "id": "raw"},
        "properties": {
            "delivery_tag": "tag",
            "delivery_info": {"exchange": "", "routing_key": "r"},
            "body_encoding": "base64",
        },
        **changes,
    }
    return json.dumps(whole)


#: What kombu cannot read.
NO_MESSAGES: list[str | bytes] = [
    *("no JSON", "5", "null", "[1]", '{"a": 1}', b"\xff\xfe", "[" * 100_000),
    raw(properties={}),
    raw(body="a"),
    raw(body=5),
    raw(headers=5),
    raw(headers=[1]),
    raw(headers={"compression": "application/x-none"}),
    raw(headers={"task": "queues.work", "id": "z", "compression": "zlib"}),
    raw(**{"content-type": "application/x-python-serialize"}),
    raw(**{"content-type": 5}),
    raw(**{"content-encoding": "no-such-encoding"}),
]


@pytest.mark.parametrize("pool", POOLS)
async def test_messages_that_are_none_end_no_worker(
    redis_server: RedisServer, new_stack: NewStack, write_app: WriteApp, pool: tuple[str, ...]
) -> None:
    bench = bench_on(redis_server, new_stack, write_app, pool)
    namespace = bench.stack.namespace
    with Connection(redis_server.url) as connection:
        for queue in ("sockets", "jobs"):
            for data in NO_MESSAGES:
                bench.client.lpush(f"{namespace}.{queue}", data)
            send_no_tasks(connection, namespace, queue)
    await bench.works()
    eventually(
        lambda: not bench.client.hlen(f"{namespace}.unacked"), what="everything to be settled"
    )
    reasons = [entry["reason"] for entry in bench.unreadable]
    assert len(reasons) >= 2 * (len(NO_MESSAGES) + len(NO_TASKS)) - 10, reasons
    await bench.works()


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    broker = RabbitMQ()
    yield broker
    broker.end()


@pytest.mark.parametrize("pool", POOLS)
async def test_messages_that_are_no_tasks_end_no_worker_of_rabbitmq(
    redis_server: RedisServer,
    rabbitmq: RabbitMQ,
    new_stack: NewStack,
    write_app: WriteApp,
    pool: tuple[str, ...],
) -> None:
    bench = bench_on(redis_server, new_stack, write_app, pool, BROKER_URL=rabbitmq.url)
    with Connection(rabbitmq.url) as connection:
        for queue in ("sockets", "jobs"):
            send_no_tasks(connection, bench.stack.namespace, queue)
            send_strange(connection, bench.stack.namespace, queue)
        await bench.works()
        # Nothing was left to be handed out again.
        channel: Any = connection.channel()
        declared = channel.queue_declare(f"{bench.stack.namespace}.jobs", passive=True)
        assert declared.message_count == 0
    assert len(bench.unreadable) >= 2 * len(NO_TASKS) - 10
    assert "Connection to broker lost" not in bench.stack.logs()


def send_strange(connection: Connection, namespace: str, queue: str) -> None:
    """What is no JSON, to RabbitMQ: its messages have headers of their own."""
    producer = Producer(connection, exchange=Exchange(namespace, type="direct"))
    for options in (
        {"content_type": "application/json", "content_encoding": "utf-8"},
        {"content_type": "application/x-python-serialize", "content_encoding": "binary"},
        {"content_type": "application/json", "content_encoding": "no-such-encoding"},
        {"headers": {"task": "queues.work", "id": "x", "compression": "zlib"}},
    ):
        producer.publish(b"\xff no JSON", routing_key=f"{namespace}.{queue}", **options)


def send_no_tasks(connection: Connection, namespace: str, queue: str) -> None:
    producer = Producer(connection, exchange=Exchange(namespace, type="direct"))
    for headers, body in NO_TASKS:
        producer.publish(
            body, headers=headers, routing_key=f"{namespace}.{queue}", serializer="json"
        )
    # Remote control is no task, but comes the same way.
    control = Exchange(f"{namespace}.control.pidbox", type="fanout", durable=False)
    for body in (5, [], {"method": 5}, {"method": "ping", "arguments": 5}, "text"):
        producer.publish(body, exchange=control, routing_key="", serializer="json")


#: What somebody has left among our own keys.
JUNK: list[bytes] = [b"", b"5", b"no JSON", b"\xff\xfe", b"\x01\xc1", b"\x02[]", b"1[", b"[" * 5000]


async def test_junk_among_our_own_keys_stops_nobody(
    redis_server: RedisServer, new_stack: NewStack, write_app: WriteApp
) -> None:
    bench = bench_on(
        redis_server,
        new_stack,
        write_app,
        ("-P", "threads", "-c", "2"),
        QUEUE_RUN_OFFLINE_DELAY="1",
    )
    namespace = bench.stack.namespace
    await bench.works()
    with redis.Redis.from_url(redis_server.url) as client:
        streams = [f"{namespace}:broadcast", f"{namespace}:presence"]
        streams += [each.decode() for each in client.scan_iter(f"{namespace}:server:*")]
        assert len(streams) == 3
        for junk in JUNK:
            for stream in streams:
                for fields in ({b"e": junk}, {b"e0": junk}, {junk: b"x"}, {b"user": junk}):
                    client.xadd(stream, fields)
            for sorted_set in (
                "delayed",
                "lanes",
                "dead:index",
                "online",
                "leaving",
                "push-servers",
            ):
                client.zadd(f"{namespace}:{sorted_set}", {junk: 1})
            for hash_ in ("delayed:jobs", "dead"):
                client.hset(f"{namespace}:{hash_}", junk, junk)
            client.rpush(f"{namespace}:lane:ordered:bad", junk)
        client.zadd(f"{namespace}:lanes", {"ordered:bad": 1})
        for _ in range(2):
            await bench.works()
        await asyncio.to_thread(run_group, bench)
        assert bench.stack.push_servers[0].running
        for junk in JUNK:
            client.set(f"{namespace}:manifest", junk)
            assert bench.stack.push_servers[0].running
        # Workers that start say anew what they offer.
        bench.stack.worker("-P", "solo")
        bench.stack.workers[-1].wait_for_output("ready.")
        await bench.works()
    assert bench.stack.push_servers[0].running


def run_group(bench: Bench) -> None:
    """Groups beside the bad one go on."""
    with pushing_to(bench.stack):
        queues.get("ordered").group("good").push("in a group")
    eventually(lambda: "in a group" in bench.done, what="the job of a group")

"""A Redis that answers, and does not do its part: it has become a replica in place, or is full."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from redis import Redis

from tests.acceptance.conftest import MESSAGES_APP
from tests.clients import connected
from tests.conftest import NewStack, WriteApp
from tests.processes import Process, RedisServer, Stack
from tests.waiting import eventually, eventually_async

MAIL = "def handler(job):\n    print('the mail went', flush=True)\n"
SENDS = """
from queue_run import ChannelUnavailable, DispatchUnavailable, queues, socket
for failing in (lambda: socket.to('ann').send(1), lambda: queues.get('mail').push(2)):
    try:
        failing()
    except (ChannelUnavailable, DispatchUnavailable) as error:
        print(type(error).__name__, error, flush=True)
"""
POOLS = [("solo",), ("threads", "-c", "2"), ("prefork", "-c", "1")]


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool[0])
async def test_a_redis_that_was_a_replica_for_a_while_is_waited_for(
    own_redis: RedisServer, new_stack: NewStack, pool: tuple[str, ...]
) -> None:
    """No process ends, a started worker waits too, and requests and jobs are back soon."""
    stack = new_stack(own_redis, MESSAGES_APP, QUEUE_RUN_DEADLINE_GRACE="2")
    server = stack.push_server()
    worker = stack.worker("-P", *pool)
    stack.wait_until_ready()
    async with connected(stack.ws("/sends?user=ann")) as client:
        with own_redis.client() as admin:
            admin.execute_command("REPLICAOF", "127.0.0.1", "1")
            await eventually_async(
                lambda: "READONLY" in worker.output or "read only" in worker.output,
                what="a worker that says so",
            )
            late = stack.worker("-P", *pool)
            await eventually_async(lambda: "read only" in late.output, what="the other one")
            admin.execute_command("REPLICAOF", "NO", "ONE")
        await asyncio.to_thread(late.wait_for_output, "ready.")
        await eventually_async(lambda: server.get("/readyz")[0] == 200, what="readiness")
        await client.send({"way": "job", "queue": "plain_job", "payload": 1})

        async def told() -> bool:
            return bool((await client.receive()).get("job") == 1)

        while not await told():
            pass
    assert all(process.running for process in (server, worker, late))
    assert "Traceback" not in worker.output + late.output


NOTIFIED = """
from queue_run import Config
config = Config(notify=True, retries=0)
def handler(job):
    print("ran", job, flush=True)
    if job == "bad":
        raise ValueError("it is bad")
"""
PUSHES = """
from queue_run import queues
def on_authenticate(request):
    return {"id": "ann"}
def handler(data):
    queues.get("report").push(data)
    return "pushed"
"""


async def test_jobs_that_tell_of_their_end_run_once_in_a_full_redis(
    own_redis: RedisServer, new_stack: NewStack, write_app: WriteApp
) -> None:
    app = write_app(
        {
            "queues/report.py": NOTIFIED,
            "sockets/index.py": PUSHES,
        }
    )
    stack = new_stack(own_redis, app)
    stack.push_server()
    first = stack.worker("-Q", f"{stack.namespace}.sockets", "-P", "solo")
    stack.wait_until_ready()
    async with connected(stack.ws("/")) as client:
        for payload in ("good", "bad"):
            await client.send(payload)
            assert await client.receive() == "pushed"
        with own_redis.client() as admin:
            admin.config_set("maxmemory", "1")
            worker = stack.worker("-Q", f"{stack.namespace}.jobs", "-P", "solo")
            ends = [(await client.receive())["event"] for _ in range(2)]
            await eventually_async(
                lambda: not admin.hlen(f"{stack.namespace}.unacked"), what="their ends"
            )
            admin.config_set("maxmemory", "0")
    assert ends == ["finished", "failed"]
    assert [worker.output.count(f"ran {each}") for each in ("good", "bad")] == [1, 1]
    assert first.running
    assert worker.running


async def test_a_push_server_waits_for_a_redis_that_is_a_replica(
    own_redis: RedisServer, new_stack: NewStack
) -> None:
    """One that runs says that it is not ready, and one that starts becomes ready later."""
    stack = new_stack(own_redis, MESSAGES_APP)
    server = stack.push_server()
    stack.worker("-P", "solo")
    stack.wait_until_ready()
    with own_redis.client() as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        await eventually_async(lambda: server.get("/readyz")[0] == 503, what="no readiness")
        late, stopped = (starting_push_server(stack) for _ in range(2))
        await eventually_async(lambda: "this server waits" in late.output, what="a line")
        await eventually_async(lambda: "this server waits" in stopped.output, what="a line")
        stopped.send(signal.SIGTERM)
        assert await asyncio.to_thread(stopped.wait) == 0, stopped.output
        admin.execute_command("REPLICAOF", "NO", "ONE")
    await eventually_async(lambda: server.get("/readyz")[0] == 200, what="readiness")
    await asyncio.to_thread(late.wait_for_output, "listens on")
    url = late.output.partition("listens on ")[2].split()[0]
    await eventually_async(lambda: server.get_from(url, "/readyz")[0] == 200, what="the other's")
    assert server.running
    assert "Traceback" not in server.output + late.output + stopped.output


def starting_push_server(stack: Stack) -> Process:
    """One that cannot say yet where it listens."""
    process = Process([sys.executable, "-m", "push_server"], environ=stack.environ(PORT="0"))
    stack.workers.append(process)
    return process


def test_a_worker_that_starts_into_a_full_redis_empties_its_queue(
    own_redis: RedisServer, new_stack: NewStack, write_app: WriteApp
) -> None:
    app = write_app(
        {"queues/mail.py": "def handler(job):\n    print('the mail went', flush=True)\n"}
    )
    stack = new_stack(own_redis, app)
    script = stack.script("from queue_run import queues; queues.get('mail').push(1)")
    assert script.wait() == 0, script.output
    with own_redis.client() as admin:
        assert admin.llen(f"{stack.namespace}.jobs") == 1
        admin.config_set("maxmemory", "1")
        worker = stack.worker("-P", "solo")
        worker.wait_for_output("the mail went")
        eventually(lambda: not admin.hlen(f"{stack.namespace}.unacked"), what="its end")
        assert worker.running
        assert "Redis is full" in worker.output
        sender = stack.script(SENDS)
        assert sender.wait() == 0, sender.output
        for name in ("ChannelUnavailable", "DispatchUnavailable"):
            [line] = [line for line in sender.output.splitlines() if line.startswith(name)]
            assert "Redis is full" in line
        admin.config_set("maxmemory", "0")
    assert "Traceback" not in worker.output


async def _renewed(admin: Redis, key: str | bytes) -> None:
    admin.pexpire(key, 6000)
    await eventually_async(lambda: admin.pttl(key) > 6000, what=f"a sign of life in {key!r}")


async def test_a_full_redis_is_named_by_readiness_and_told_of_once(
    own_redis: RedisServer, new_stack: NewStack
) -> None:
    """Signs of life go on in it: what expires would else be gone when there is room again."""
    stack = new_stack(own_redis, MESSAGES_APP)
    server, worker = stack.push_server(), stack.worker("-P", "solo")
    stack.wait_until_ready()
    async with connected(stack.ws("/sends?user=ann")):
        with own_redis.client() as admin:
            [stream] = admin.keys(f"{stack.namespace}:server:*")
            admin.config_set("maxmemory", "1")
            await eventually_async(
                lambda: "room in Redis" in str(server.get("/readyz")), what="a name for it"
            )
            assert server.get("/readyz")[0] == 503
            for key in (stream, f"{stack.namespace}:workers:sockets"):
                await _renewed(admin, key)
            assert "workers" not in str(server.get("/readyz"))
            assert not admin.exists(f"{stack.namespace}:probe")
            admin.config_set("maxmemory", "0")
        await eventually_async(lambda: server.get("/readyz")[0] == 200, what="readiness")
    for process in (server, worker):
        assert process.running
        assert process.output.count("Redis is full") <= 2
        assert "Traceback" not in process.output
        assert "no heartbeat" not in process.output
    assert "Redis has room again" in server.output


TICKS = """
from queue_run import Config
config = Config(schedule="every second")
def handler(job):
    print("tick", flush=True)
"""


@pytest.mark.parametrize(
    "scheduler", ["worker.celery_side.beat.Scheduler", "redbeat.RedBeatScheduler"]
)
async def test_beat_waits_for_a_redis_that_is_a_replica(
    own_redis: RedisServer,
    new_stack: NewStack,
    write_app: WriteApp,
    tmp_path: Path,
    scheduler: str,
) -> None:
    """At its start, and when it is at work."""
    stack = new_stack(own_redis, write_app({"queues/clock.py": TICKS}))
    worker = stack.worker("-P", "solo")
    stack.wait_until_ready()
    with own_redis.client() as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        beat = Process(
            [
                *(sys.executable, "-m", "celery", "-A", "worker", "beat", "-S", scheduler),
                *("-s", str(tmp_path / "beat"), "-l", "INFO", "--max-interval", "1"),
            ],
            environ=stack.environ(),
        )
        stack.workers.append(beat)
        await eventually_async(lambda: "read only" in beat.output, what="a beat that waits")
        admin.execute_command("REPLICAOF", "NO", "ONE")
        await ticks(worker)
        told = beat.output.count("read only")
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        await eventually_async(
            lambda: beat.output.count("read only") > told, what="a beat that waits again"
        )
        admin.execute_command("REPLICAOF", "NO", "ONE")
        await ticks(worker)
    assert beat.running, beat.output
    assert worker.running


async def ticks(worker: Process) -> None:
    """Wait until jobs of the schedule run."""
    before = worker.output.count("tick")
    await eventually_async(lambda: worker.output.count("tick") > before + 2, what="jobs of beat")

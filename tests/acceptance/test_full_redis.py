"""A Redis that is full (`maxmemory`, `noeviction`): processes run on, and what waits is done."""

import signal
import sys

import pytest

from tests.conftest import NewStack, WriteApp
from tests.processes import Process, RedisServer, Stack
from tests.waiting import DEADLINE, eventually

POOLS = [("solo",), ("threads", "-c", "2"), ("prefork", "-c", "1")]
SOCKETS = """
def handler(data):
    return data
"""
WORK = """
import time
from queue_run import Config
config = Config(notify=True, retries=2, backoff=0.1{more})
def handler(job, *, attempt):
    time.sleep(0.02)
    if job == "fails once" and attempt == 1:
        raise ValueError("at first")
    # In one write: threads print side by side.
    print(f"did {{job}}\\n", end="", flush=True)
"""
BACKLOG = """
from queue_run import as_user, queues
with as_user("ann"):
    for number in range(30):
        queues.get("ordered").group(f"g{number % 3}").push(f"ordered {number}")
    queues.get("plain").push("fails once")
"""


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool[0])
def test_processes_are_started_asked_and_stopped_in_a_full_redis(
    own_redis: RedisServer, new_stack: NewStack, write_app: WriteApp, pool: tuple[str, ...]
) -> None:
    """Everything that waits is done: groups in their order, retries too."""
    app = write_app(
        {
            "queues/plain.py": WORK.format(more=""),
            "queues/ordered.py": WORK.format(more=", fifo=True"),
            "sockets/index.py": SOCKETS,
        }
    )
    stack = new_stack(own_redis, app, QUEUE_RUN_DEADLINE_GRACE="1")
    server, first = stack.push_server(), stack.worker("-P", *pool)
    stack.wait_until_ready()
    with own_redis.client() as admin:
        # So that what is pushed waits.
        first.send(signal.SIGTERM)
        assert first.wait() == 0, first.output
        sender = stack.script(BACKLOG)
        assert sender.wait() == 0, sender.output
        admin.config_set("maxmemory", "1")
        late = stack.push_server()
        eventually(lambda: "room in Redis" in late.get("/readyz")[1], what="a name for it")
        worker = stack.worker("-P", *pool)
        worker.wait_for_output("ready.")
        assert_answers(stack, worker)
        eventually(lambda: worker.output.count("did ") == 31, what="all jobs")
        eventually(lambda: not admin.hlen(f"{stack.namespace}.unacked"), what="their ends")
        for process in (late, worker):
            process.send(signal.SIGTERM)
            assert process.wait() == 0, process.output
        last = stack.worker("-P", *pool)
        last.wait_for_output("ready.")
        admin.config_set("maxmemory", "0")
    eventually(lambda: server.get("/readyz")[0] == 200, what="readiness", deadline=15)
    done = [line[4:] for line in worker.output.splitlines() if line.startswith("did ")]
    for group in range(3):
        ordered = [int(each.split()[1]) for each in done if each.startswith("ordered ")]
        assert [each for each in ordered if each % 3 == group] == list(range(group, 30, 3))
    assert "fails once" in done
    assert server.running
    for process in (server, late, last):
        assert "Traceback" not in process.output
    # That of the attempt which fails.
    assert worker.output.count("Traceback") == 1


def assert_answers(stack: Stack, worker: Process) -> None:
    """What looks after workers asks them whether they live."""
    node = worker.command[worker.command.index("-n") + 1]
    command = [sys.executable, "-m", "celery", "-A", "worker", "inspect", "ping"]
    # It waits for so long, unless all that were asked have answered.
    options = ["--timeout", str(DEADLINE), "-d", node]
    asked = Process([*command, *options], environ=stack.environ())
    assert asked.wait() == 0, asked.output
    assert "pong" in asked.output

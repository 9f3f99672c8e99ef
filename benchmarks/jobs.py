"""`python -m benchmarks.jobs`: jobs beside plain Celery tasks, in one run.

A job that does nothing: as a Celery task of Celery's own defaults, as a job of a queue, and as one
of a FIFO group. On a prefork worker, Celery's default and the Procfile's for jobs, and on a solo
one, the pool that costs Celery least. The worker waits until all is pushed, so that what is
measured is the way of the jobs and not the waiting for them.
"""

import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from benchmarks.processes import cpu_seconds
from tests.processes import ROOT, Process, RedisServer, Stack, environment
from tests.waiting import eventually

POOLS = {"prefork": ("-P", "prefork", "-c", "2"), "solo": ("-P", "solo")}
ROUNDS = 3
JOBS = 4000
GROUPS = 200
#: Seconds that one round may take.
DEADLINE = 120.0

PUSH_TASKS = f"""
from benchmarks.straightforward import nothing
for n in range({JOBS}):
    nothing.delay({{"n": n}})
"""
PUSH_JOBS = f"""
from queue_run import queues
for n in range({JOBS}):
    queues.get("plain").push({{"n": n}})
"""
# Every round's payloads are its own: what repeats within minutes would be dropped.
PUSH_FIFO = f"""
import os
from queue_run import queues
for n in range({JOBS}):
    queues.get("fifo").group(n % {GROUPS}).push({{"n": n, "by": os.getpid()}})
"""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A program with its worker, whose jobs all end."""

    name: str
    worker: Process
    server: RedisServer
    #: Code that pushes all jobs, and what it runs in.
    push: str
    environ: dict[str, str]
    #: Whether everything that was pushed has ended.
    ended: Callable[[redis.Redis], bool]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Microseconds of CPU per job: of whoever pushes it, of the worker and of Redis."""

    push: float
    worker: float
    redis: float

    @property
    def run(self) -> float:
        return self.worker + self.redis


@contextmanager
def celery_tasks(pool: Sequence[str]) -> Iterator[Work]:
    server = RedisServer()
    environ = environment(REDIS_URL=server.url)
    worker = Process(
        [
            *(sys.executable, "-m", "celery", "-A", "benchmarks.straightforward", "worker"),
            *pool,
            *("-l", "WARNING", "-n", "plain@tasks"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ],
        environ=environ,
    )
    try:
        yield Work(
            name="a Celery task",
            worker=worker,
            server=server,
            push=PUSH_TASKS,
            environ=environ,
            ended=lambda client: not client.exists("celery", "unacked"),
        )
    finally:
        worker.kill()
        worker.end()
        server.end()


@contextmanager
def queue_run_jobs(pool: Sequence[str], name: str, push: str, *waiting: str) -> Iterator[Work]:
    """Jobs of queue-run, which have ended when none of these keys is there any more."""
    server = RedisServer()
    stack = Stack(server.url, ROOT / "benchmarks" / "app", "bench", QUEUE_RUN_LOG_LEVEL="WARNING")
    worker = stack.worker(*pool, "-l", "WARNING", queues="jobs")
    try:
        # The manifest says that a queue is a FIFO queue.
        with server.client() as client:
            eventually(lambda: client.exists("bench:manifest"), what="the manifest")
        yield Work(
            name=name,
            worker=worker,
            server=server,
            push=push,
            environ=stack.environ(),
            ended=lambda client: not client.exists(*waiting),
        )
    finally:
        stack.end()
        server.end()


def measure(work: Work) -> Figures:
    with work.server.client() as client:
        rounds = [_round(work, client) for _ in range(ROUNDS)]
    return Figures(
        push=statistics.median(each.push for each in rounds),
        worker=statistics.median(each.worker for each in rounds),
        redis=statistics.median(each.redis for each in rounds),
    )


def _round(work: Work, client: redis.Redis) -> Figures:
    os.killpg(work.worker.pid, signal.SIGSTOP)
    before = os.times()
    subprocess.run([sys.executable, "-c", work.push], env=work.environ, cwd=ROOT, check=True)
    after = os.times()
    pushed = after.children_user + after.children_system
    pushed -= before.children_user + before.children_system
    worker, server = _tree_cpu_seconds(work.worker), cpu_seconds(work.server.process.pid)
    os.killpg(work.worker.pid, signal.SIGCONT)
    eventually(lambda: work.ended(client), what=f"the end of {work.name}", deadline=DEADLINE)
    per_job = 1e6 / JOBS
    return Figures(
        push=pushed * per_job,
        worker=(_tree_cpu_seconds(work.worker) - worker) * per_job,
        redis=(cpu_seconds(work.server.process.pid) - server) * per_job,
    )


def _tree_cpu_seconds(worker: Process) -> float:
    """CPU seconds of a worker and its children."""
    return sum(map(cpu_seconds, [worker.pid, *worker.children]))


def main() -> None:
    print(f"{JOBS} jobs, microseconds of CPU per job (the start of the pusher included)")
    for pool, options in POOLS.items():
        print(f"{pool + ' worker':28}{'push':>8}{'worker':>8}{'Redis':>8}{'run':>8}{'ratio':>8}")
        base = None
        for opened in (
            celery_tasks(options),
            queue_run_jobs(options, "a job", PUSH_JOBS, "bench.jobs", "bench.unacked"),
            queue_run_jobs(options, f"a FIFO job, {GROUPS} groups", PUSH_FIFO, "bench:lanes"),
        ):
            with opened as work:
                figures = measure(work)
            base = base or figures
            print(
                f"{work.name:28}{figures.push:8.0f}{figures.worker:8.0f}{figures.redis:8.0f}"
                f"{figures.run:8.0f}{figures.run / base.run:8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

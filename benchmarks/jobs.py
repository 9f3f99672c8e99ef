"""Jobs beside plain Celery tasks, in rounds that take turns.

A job that does nothing: as a Celery task of Celery's own defaults, as a job of a queue, and as one
of a FIFO group. On a prefork worker, Celery's default and the Procfile's for jobs, and on a solo
one, the pool that costs Celery least. The worker waits until all is pushed, so that what is
measured is the way of the jobs and not the waiting for them.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import redis

from benchmarks.cpu import cpu_seconds, tree_cpu_seconds
from benchmarks.measure import start_together
from benchmarks.programs import APP, celery_worker
from tests.processes import ROOT, Process, RedisServer, Stack, environment
from tests.waiting import eventually

POOLS = {"prefork": ("-P", "prefork", "-c", "2"), "solo": ("-P", "solo")}
#: Jobs of one group that are pushed before the worker goes on.
PER_GROUP = 20
#: Seconds that one round may take.
DEADLINE = 120.0

PUSH_TASKS = """
from benchmarks.straightforward import nothing
for n in range({jobs}):
    nothing.delay({{"n": n}})
"""
PUSH_JOBS = """
from queue_run import queues
for n in range({jobs}):
    queues.get("plain").push({{"n": n}})
"""
# Every round's payloads are its own: what repeats within minutes would be dropped.
PUSH_FIFO = """
import os
from queue_run import queues
for n in range({jobs}):
    queues.get("fifo").group(n % {groups}).push({{"n": n, "by": os.getpid()}})
"""


@dataclass(frozen=True, kw_only=True)
class JobProgram:
    """A program with its worker, whose jobs all end."""

    worker: Process
    server: RedisServer
    #: Code that pushes all jobs, and what it runs in.
    push: str
    environ: dict[str, str]
    #: Whether everything that was pushed has ended.
    ended: Callable[["redis.Redis"], bool]


@contextmanager
def celery_tasks(pool: Sequence[str]) -> Iterator[JobProgram]:
    server = RedisServer()
    environ = environment(REDIS_URL=server.url)
    worker = celery_worker("benchmarks.straightforward", *pool, environ=environ)
    try:
        yield JobProgram(
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
def queue_run_jobs(pool: Sequence[str], push: str, *waiting: str) -> Iterator[JobProgram]:
    """Jobs of queue-run, which have ended when none of these keys is there any more."""
    server = RedisServer()
    stack = Stack(server.url, APP, "bench", QUEUE_RUN_LOG_LEVEL="WARNING")
    worker = stack.worker(*pool, "-l", "WARNING", queues="jobs")
    try:
        # The manifest says that a queue is a FIFO queue.
        with server.client() as client:
            eventually(lambda: client.exists("bench:manifest"), what="the manifest")
        yield JobProgram(
            worker=worker,
            server=server,
            push=push,
            environ=stack.environ(),
            ended=lambda client: not client.exists(*waiting),
        )
    finally:
        stack.end()
        server.end()


def measure(pool: str, *, jobs: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Milliseconds of CPU per job: of whoever pushes it, of the worker and of Redis."""
    options = POOLS[pool]
    with ExitStack() as ending:
        programs = {
            "straightforward": celery_tasks(options),
            "ours (plain job)": queue_run_jobs(options, PUSH_JOBS, "bench.jobs", "bench.unacked"),
            "ours": queue_run_jobs(options, PUSH_FIFO, "bench:lanes"),
        }
        running = start_together(programs, ending)
        for program in running.values():
            _round(program, 100)
        return _in_turn(running, jobs, rounds)


def _in_turn(
    running: dict[str, JobProgram], jobs: int, rounds: int
) -> dict[str, list[dict[str, float]]]:
    given: dict[str, list[dict[str, float]]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, program in running.items():
            given[name].append(_round(program, jobs))
    return given


def _round(program: JobProgram, jobs: int) -> dict[str, float]:
    os.killpg(program.worker.pid, signal.SIGSTOP)
    try:
        pushed = _push(program, jobs)
        worker = tree_cpu_seconds(program.worker.pid)
        server = cpu_seconds(program.server.process.pid)
    finally:
        os.killpg(program.worker.pid, signal.SIGCONT)
    with program.server.client() as client:
        eventually(lambda: program.ended(client), what="the end of all jobs", deadline=DEADLINE)
    worker = (tree_cpu_seconds(program.worker.pid) - worker) / jobs * 1e3
    server = (cpu_seconds(program.server.process.pid) - server) / jobs * 1e3
    return {
        "cpu": worker + server,
        "cpu worker": worker,
        "cpu redis": server,
        "cpu publisher": pushed / jobs * 1e3,
    }


def _push(program: JobProgram, jobs: int) -> float:
    """CPU seconds of a process that pushes all, its start included."""
    before = os.times()
    code = program.push.format(jobs=jobs, groups=max(1, jobs // PER_GROUP))
    subprocess.run(
        [sys.executable, "-c", code], env=program.environ, cwd=ROOT, check=True, timeout=DEADLINE
    )
    after = os.times()
    used = after.children_user + after.children_system
    return used - before.children_user - before.children_system

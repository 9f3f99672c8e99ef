"""Requests beside waiting jobs: how long they take in each pool that a worker of both may have.

One worker serves requests and jobs, as a small application has it. Thousands of jobs of ten
milliseconds wait for it while some clients ask, each one request after another on a schedule. What
counts is the time from a message to its answer, the schedule's: a request that leaves late because
the one before it took long counts from when it should have left. All processes share the machine's
cores: what requests take there without any job, and for how much of the time the worker could have
run and had no core, stand beside it.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from websockets.asyncio.client import connect

from benchmarks import cpu, page
from benchmarks.machine import facts
from tests.processes import ROOT, Process, RedisServer, Stack
from tests.waiting import eventually

PAGE = ROOT / "docs" / "benchmarks.md"
COMMAND = "python -m benchmarks.beside_jobs"
RESULTS = Path(__file__).parent / "results" / "beside_jobs.json"
APP = ROOT / "benchmarks" / "waiting_app"
NAMESPACE = "bench"
POOLS = {
    "solo": ("-P", "solo"),
    "prefork-1": ("-P", "prefork", "-c", "1"),
    "prefork-2": ("-P", "prefork", "-c", "2"),
    "threads-1": ("-P", "threads", "-c", "1"),
    "threads-2": ("-P", "threads", "-c", "2"),
}
GROUPS = 500
PUSH = """
from queue_run import queues
for n in range({jobs}):
    queues.get("{queue}"){group}.push({{"n": n}})
"""
KINDS: dict[str, tuple[str, str] | None] = {
    "none": None,
    "plain": ("plain", ""),
    "coroutine": ("coroutine", ""),
    f"FIFO, {GROUPS} groups": ("fifo", f".group(n % {GROUPS})"),
    "FIFO, one group": ("fifo", ".group(0)"),
}
#: What p99 is to be at most, in milliseconds, where it can be: see docs/deploy.md.
BAR = 50.0
CLIENTS = 10
#: Seconds between two requests of a client: far more than an answer may take.
INTERVAL = 0.25
#: Seconds that a client has to connect before the first request is due.
SPACING = 0.05
#: Seconds in which what a worker does first is over.
WARM_UP = 1.0
#: Seconds that one answer, or the pushing, may take.
PATIENCE = 120.0


@contextmanager
def _waiting(pool: str, kind: str, jobs: int) -> Iterator[Stack]:
    """A stack with one worker, for which so many jobs wait."""
    server = RedisServer()
    stack = Stack(
        server.url,
        APP,
        NAMESPACE,
        QUEUE_RUN_MAX_MESSAGE_RATE="1000000",
        QUEUE_RUN_HEARTBEAT_INTERVAL="1",
    )
    try:
        stack.push_server()
        worker = stack.worker(*POOLS[pool])
        # The manifest says that a queue is a FIFO queue.
        stack.wait_until_ready()
        os.killpg(worker.pid, signal.SIGSTOP)
        try:
            _push(stack, kind, jobs)
        finally:
            os.killpg(worker.pid, signal.SIGCONT)
        if KINDS[kind] is not None:
            _wait_until_begun(server, worker)
        # Its sign of life may have expired meanwhile.
        stack.wait_until_ready()
        yield stack
    finally:
        stack.end()
        server.end()


def _push(stack: Stack, kind: str, jobs: int) -> None:
    if (pushed := KINDS[kind]) is None:
        return
    queue, group = pushed
    code = PUSH.format(jobs=jobs, queue=queue, group=group)
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=stack.environ(), cwd=ROOT, check=True, timeout=PATIENCE)


def _wait_until_begun(server: RedisServer, worker: Process) -> None:
    def begun() -> bool:
        assert worker.running, worker.output
        return bool(client.exists(f"{NAMESPACE}.unacked"))

    with server.client() as client:
        eventually(begun, what="a job that has begun")


def latencies(url: str, seconds: float) -> list[float]:
    """Seconds that each request of all clients took, on their schedules."""
    return asyncio.run(_latencies(url, seconds))


async def _latencies(url: str, seconds: float) -> list[float]:
    began = time.monotonic() + CLIENTS * SPACING
    clients = [
        _ask(url, began + number * INTERVAL / CLIENTS, began + seconds) for number in range(CLIENTS)
    ]
    return [each for found in await asyncio.gather(*clients) for each in found]


async def _ask(url: str, due: float, until: float) -> list[float]:
    found = []
    async with connect(url, open_timeout=PATIENCE) as client, asyncio.timeout(PATIENCE):
        number = 0
        while due < until:
            await asyncio.sleep(due - time.monotonic())
            await client.send(json.dumps({"n": number}))
            answer = json.loads(await client.recv())
            assert answer == {"n": number}, answer
            found.append(time.monotonic() - due)
            number += 1
            due += INTERVAL
    return found


def measure(pool: str, kind: str, *, jobs: int, seconds: float) -> dict[str, Any]:
    """What requests took, in milliseconds, while jobs waited."""
    with _waiting(pool, kind, jobs) as stack:
        latencies(stack.ws(), WARM_UP)
        [worker] = stack.workers
        began, waited = time.monotonic(), cpu.waited_seconds(worker.pid)
        found = sorted(latencies(stack.ws(), seconds))
        waited = (cpu.waited_seconds(worker.pid) - waited) / (time.monotonic() - began)
    return {
        "pool": pool,
        "jobs": kind,
        "requests": len(found),
        "p50 ms": _at(found, 0.5),
        "p99 ms": _at(found, 0.99),
        "max ms": _at(found, 1.0),
        "% of the time waiting for a core": waited * 100,
    }


def _at(found: Sequence[float], share: float) -> float:
    return found[min(len(found) - 1, int(len(found) * share))] * 1e3


def _table(rows: Sequence[dict[str, Any]]) -> str:
    heads = list(rows[0])
    return page.table(heads, [[_cell(row[head]) for head in heads] for row in rows])


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value}"


@click.command()
@click.option("--pool", "pools", multiple=True, type=click.Choice(list(POOLS)))
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)))
@click.option("--jobs", default=10_000, show_default=True, help="That wait.")
@click.option("--seconds", default=15.0, show_default=True, help="In which a client asks.")
@click.option("--write", is_flag=True, help="Put the table into docs/benchmarks.md.")
def main(
    pools: tuple[str, ...], kinds: tuple[str, ...], jobs: int, seconds: float, write: bool
) -> None:
    """Measure what requests take while jobs wait.

    Examples:
        python -m benchmarks.beside_jobs
        python -m benchmarks.beside_jobs --pool solo --kind plain
    """
    rows = []
    for pool in pools or POOLS:
        for kind in kinds or KINDS:
            rows.append(measure(pool, kind, jobs=jobs, seconds=seconds))
            click.echo(", ".join(f"{name} {_cell(value)}" for name, value in rows[-1].items()))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"facts": facts(), "rows": rows}, indent=1))
    if write:
        page.put(PAGE, COMMAND, f"{page.measured_on(facts())}\n\n{_table(rows)}")


if __name__ == "__main__":
    main()

"""`make bench`: queue-run beside the straightforward program, in one run.

Machines are noisy: read the ratios, and the CPU seconds of server, workers and Redis per unit of
work, not the wall-clock rates.
"""

import asyncio
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from benchmarks import jobs
from benchmarks.load import fan_out, round_trips
from benchmarks.processes import cpu_seconds
from queue_run.channel.publisher import Publisher
from queue_run.envelopes import ToUsers, encode
from queue_run.ids import UserId
from queue_run.keys import Keys
from queue_run.messages import encode as encode_message
from tests.processes import ROOT, Process, RedisServer, Stack, environment, free_port

ROUNDS = 3
SECONDS = 3.0
MESSAGE = {"event": "news", "text": "a message of some length, as people write them"}


@dataclass(frozen=True, kw_only=True)
class Program:
    """A running program to be measured."""

    name: str
    url: str
    processes: list[Process]
    publish: Callable[[int], None]

    def cpu(self) -> float:
        """CPU seconds that its processes have used."""
        return sum(cpu_seconds(process.pid) for process in self.processes)


@contextmanager
def queue_run() -> Iterator[Program]:
    server = RedisServer()
    stack = Stack(
        server.url,
        ROOT / "benchmarks" / "app",
        "bench",
        # What is measured is the way of a message: no log line each, no limit of one client.
        QUEUE_RUN_MAX_MESSAGE_RATE="1000000",
    )
    stack.push_server()
    for _ in range(2):
        stack.worker("-P", "solo", queues="sockets")
    stack.wait_until_ready()
    publisher = Publisher(server.url, timeout=30)

    def publish(count: int) -> None:
        message = encode_message(MESSAGE, limit=10_000)
        for _ in range(count):
            data = encode(ToUsers(users=[UserId("one")], message=message))
            publisher.publish(Keys("bench").broadcast, data, max_entries=10_000)

    processes = [*stack.push_servers, *stack.workers, server.process]
    try:
        yield Program(name="queue-run", url=stack.ws(), processes=processes, publish=publish)
    finally:
        publisher.close()
        stack.end()
        server.end()


@contextmanager
def straightforward() -> Iterator[Program]:
    server = RedisServer()
    port = free_port()
    environ = environment(REDIS_URL=server.url, PORT=str(port))
    web = Process([sys.executable, "-m", "benchmarks.straightforward"], environ=environ)
    web.wait_for_output("listening")
    workers = [
        Process(
            [
                *(sys.executable, "-m", "celery", "-A", "benchmarks.straightforward", "worker"),
                *("-P", "solo", "-l", "WARNING", "-n", f"worker{number}@straightforward"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            environ=environ,
        )
        for number in range(2)
    ]
    client = redis.Redis.from_url(server.url)

    def publish(count: int) -> None:
        for _ in range(count):
            client.publish("straightforward", json.dumps({"to": "*", "message": MESSAGE}))

    try:
        yield Program(
            name="straightforward",
            url=f"ws://127.0.0.1:{port}/",
            processes=[web, *workers, server.process],
            publish=publish,
        )
    finally:
        client.close()
        for process in (web, *workers):
            process.kill()
            process.end()
        server.end()


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The medians of one work on one program."""

    #: Milliseconds of CPU per unit.
    cpu: float
    #: Units per second, or the median of a unit's milliseconds.
    extra: float


async def measure_round_trips(program: Program, connections: int) -> Figures:
    await round_trips(program.url, connections=connections, seconds=1)
    cpus, rates, medians = [], [], []
    for _ in range(ROUNDS):
        before = program.cpu()
        count, latencies = await round_trips(program.url, connections=connections, seconds=SECONDS)
        cpus.append((program.cpu() - before) / count * 1000)
        rates.append(count / SECONDS)
        medians.append(statistics.median(latencies) * 1000)
    extra = rates if connections > 1 else medians
    return Figures(cpu=statistics.median(cpus), extra=statistics.median(extra))


async def measure_fan_out(program: Program, connections: int, messages: int) -> Figures:
    cpus, rates = [], []
    for _ in range(ROUNDS):
        before = program.cpu()
        started = asyncio.get_running_loop().time()
        count = await fan_out(
            program.url, connections=connections, messages=messages, publish=program.publish
        )
        cpus.append((program.cpu() - before) / count * 1000)
        rates.append(count / (asyncio.get_running_loop().time() - started))
    return Figures(cpu=statistics.median(cpus), extra=statistics.median(rates))


def report(work: str, ours: Figures, theirs: Figures, unit: str) -> None:
    print(
        f"{work:36}{ours.cpu:9.3f} {theirs.cpu:9.3f} {ours.cpu / theirs.cpu:7.2f}"
        f"   {ours.extra:9.1f} {theirs.extra:9.1f} {ours.extra / theirs.extra:7.2f} {unit}",
        flush=True,
    )


async def main() -> None:
    print(f"{'queue-run beside the straightforward':36}{'CPU ms per unit':>25}{'':6}{'rate':>20}")
    print(f"{'program':36}{'ours    theirs   ratio':>25}{'':6}{'ours    theirs   ratio':>25}")
    with queue_run() as ours, straightforward() as theirs:
        for connections, unit in ((1, "ms median"), (100, "per second")):
            figures = [await measure_round_trips(each, connections) for each in (ours, theirs)]
            report(f"round trip, {connections} connections", figures[0], figures[1], unit)
        figures = [await measure_fan_out(each, 1000, 20) for each in (ours, theirs)]
        report("delivery, fan-out to 1,000", figures[0], figures[1], "per second")


if __name__ == "__main__":
    asyncio.run(main())
    jobs.main()

"""A long time of everything mild: nothing may grow."""

import asyncio
import dataclasses
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from push_server.delivery.hub import RECENT_IDS
from tests.faults.checker import judge_requests
from tests.faults.load import asking
from tests.faults.proxy import Proxy
from tests.faults.report import Row
from tests.faults.scenarios.pushes import run
from tests.faults.scenarios.size import Size
from tests.faults.stage import Memory, Stage, now, stage
from tests.processes import ROOT

#: Samples that are taken over the run.
SAMPLES = 120
#: The first part of the run, in which the window and the memory of recent ids fill.
WARMING = 0.5
#: Growth over the measured part that is noise: of the value at its begin, and in units.
NOISE_SHARE = 0.10
FILL = f"""
import asyncio
from queue_run import socket

async def fill():
    for _ in range(0, {RECENT_IDS}, 1000):
        await asyncio.gather(*(socket.to("nobody").send("x") for _ in range(1000)))

asyncio.run(fill())
"""
NOISE = {"memory MiB": 8.0, "descriptors": 20.0, "Redis keys": 300.0, "stream entries": 1500.0}


@dataclass(slots=True)
class Series:
    """One figure over time."""

    name: str
    unit: str
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, time: float, value: float) -> None:
        self.times.append(time)
        self.values.append(value)

    @property
    def growth(self) -> float:
        """How much it grows over the measured part, by least squares."""
        start = int(len(self.times) * WARMING)
        times, values = self.times[start:], self.values[start:]
        return slope(times, values) * (times[-1] - times[0]) if len(times) > 2 else 0.0

    @property
    def steady(self) -> bool:
        start = self.values[int(len(self.values) * WARMING)]
        return self.growth <= max(NOISE[self.unit], NOISE_SHARE * start)

    def __str__(self) -> str:
        return f"{self.name} {self.values[-1]:,.0f} {self.unit} ({self.growth:+.1f})"


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line through the points, by least squares; per unit of time."""
    mean_time, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((time - mean_time) ** 2 for time in times)
    return (
        sum((t - mean_time) * (v - mean) for t, v in zip(times, values, strict=True)) / spread
        if spread
        else 0.0
    )


async def soak(size: Size) -> Row:
    """Pushes, requests, and a socket cut now and then."""
    # The window and the claims come to their full size within the warm-up.
    warm = max(15.0, size.soak * WARMING / 4)
    settings = {
        "QUEUE_RUN_WINDOW_TIME": f"{warm:g}",
        "QUEUE_RUN_SESSION_TIME": f"{min(60.0, warm):g}",
        "QUEUE_RUN_BROADCAST_ENTRIES": "2000",
    }
    async with (
        stage(settings=settings) as on,
        Proxy(on.ports[0]) as first,
        Proxy(on.ports[1]) as second,
    ):
        urls = [f"ws://127.0.0.1:{proxy.port}/" for proxy in (first, second)]
        await asyncio.to_thread(_fill_recent_ids, on)
        mild = _mild(size)
        async with (
            run(mild, urls=urls, on=on) as lab,
            # Not counted: that would be a key that grows by what is asked.
            asking(mild.askers, urls, rate=1, counted=False) as askers,
        ):
            series = _series(on)
            until = now() + size.soak
            while now() < until:
                await asyncio.sleep(size.soak / SAMPLES)
                random.choice((first, second)).cut(1)
                _sample(series, on)
            await askers.stop()
            requests = judge_requests(askers.requests, on.runs())
            verdict = await lab.settle()
        steady = all(each.steady for each in series)
        return Row(
            fault=f"nothing but a socket cut now and then, for {size.soak / 60:g} minutes",
            load=f"{mild.load}, {mild.askers} clients asking 1/s",
            shown=f"{verdict}; {requests}; at the end, with the growth after the first "
            f"{WARMING:.0%}: " + ", ".join(map(str, series)),
            passed=verdict.clean and verdict.gaps == 0 and requests.clean and steady,
        )


def _fill_recent_ids(on: Stage) -> None:
    """Push servers remember so many messages, whatever time that takes: at the rate of this run a
    quarter of an hour."""
    environ = on.stack.environ()
    subprocess.run([sys.executable, "-c", FILL], env=environ, cwd=ROOT, check=True)


def _mild(size: Size) -> Size:
    return dataclasses.replace(size, clients=size.clients // 5, rate=size.rate / 4)


def _series(on: Stage) -> list[Series]:
    names = [
        *(f"push server {number}" for number in range(len(on.push_servers))),
        *(f"worker {number}" for number in range(len(on.workers))),
        "Redis",
    ]
    return [
        *(Series(name, "memory MiB") for name in names),
        # Clients whose sockets are cut may move to another one.
        Series("push servers", "descriptors"),
        *(Series(name, "descriptors") for name in names[len(on.push_servers) :]),
        Series("Redis", "Redis keys"),
        Series("all streams", "stream entries"),
    ]


def _sample(series: list[Series], on: Stage) -> None:
    time = now()
    pids = [process.pid for process in on.all_processes()]
    descriptors = [Memory.descriptors(pid) for pid in pids]
    servers = len(on.push_servers)
    keys = cast("list[str]", on.redis.keys(f"{on.stack.namespace}:*"))
    streams = [key for key in keys if ":server:" in key or key.endswith(":broadcast")]
    values: list[Any] = [
        *(Memory.bytes(pid) / 2**20 for pid in pids),
        sum(descriptors[:servers]),
        *descriptors[servers:],
        len(keys),
        sum(int(on.redis.xlen(key)) for key in streams),
    ]
    for each, value in zip(series, values, strict=True):
        each.add(time, value)

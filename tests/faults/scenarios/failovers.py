"""Redis takes no writes for a while, and another one takes over: planned, or after a crash."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.faults.checker import RequestVerdict, Verdict, judge_requests
from tests.faults.jobs import JobPusher, JobVerdict, pushing_jobs
from tests.faults.load import Askers, asking
from tests.faults.report import Row
from tests.faults.scenarios.links import BACK_WITHIN
from tests.faults.scenarios.pushes import Run, run
from tests.faults.scenarios.size import Size
from tests.faults.stage import Stage, now, stage, within

POOLS = (("solo",), ("prefork", "-c", "2"))
#: Jobs per second.
JOBS_RATE = 9.0
#: Seconds for which Redis is a replica, or for which its address still leads to the old one.
DEMOTED, LATE = 3.0, 0.5


@dataclass(slots=True)
class Load:
    """Everything that is at work on a stage, and how long it was away at most."""

    stage: Stage
    run: Run
    askers: Askers
    jobs: JobPusher
    worst: float = 0.0

    async def back(self) -> None:
        """Redis takes writes: wait until a later request is answered, and a later job has run."""
        began = now()
        asked, ran = len(self.askers.requests.outcomes), len(self.jobs.runs())

        def works() -> bool:
            later = list(self.askers.requests.outcomes.values())[asked:]
            return any("reply" in each for each in later) and len(self.jobs.runs()) > ran

        await within(works, "requests and jobs again")
        self.worst = max(self.worst, now() - began)

    async def settle(self) -> "Seen":
        await self.askers.stop()
        jobs = await self.jobs.settle()
        alive = self.stage.alive()
        requests = judge_requests(self.askers.requests, self.stage.runs())
        return Seen(await self.run.settle(), requests, jobs, self.worst, alive)


@dataclass(slots=True)
class Seen:
    """What became of all of it."""

    messages: Verdict
    requests: RequestVerdict
    jobs: JobVerdict
    worst: float
    alive: bool

    @property
    def clean(self) -> bool:
        return (
            self.messages.clean
            and self.requests.clean
            and self.jobs.clean
            and self.alive
            and self.worst <= BACK_WITHIN
        )

    def __str__(self) -> str:
        return (
            f"{self.messages}; {self.requests}; {self.jobs}; requests and jobs again after at most "
            f"{self.worst:.1f} s; all processes alive: {'yes' if self.alive else 'no'}"
        )


@contextlib.asynccontextmanager
async def loaded(size: Size) -> AsyncIterator[Load]:
    """Push servers and workers at work on a Redis that has a replica."""
    async with (
        stage(workers=2, replicated=True, pools=POOLS) as on,
        run(size, on=on) as lab,
        asking(size.askers, on.urls, rate=1, takes=size.takes) as askers,
        pushing_jobs(on, rate=JOBS_RATE) as jobs,
    ):
        yield Load(on, lab, askers, jobs)


def _load(size: Size) -> str:
    return f"{size.mild_load}; {JOBS_RATE:g} jobs/s; workers solo and prefork"


async def redis_demoted(size: Size) -> Row:
    """Redis becomes a replica in place, and takes writes again later."""
    async with loaded(size) as load:
        for _ in range(size.demotions):
            await asyncio.sleep(size.pause)
            load.stage.nodes.demote()
            await asyncio.sleep(DEMOTED)
            load.stage.nodes.promote_again()
            await load.back()
        seen = await load.settle()
        return Row(
            fault=f"Redis becomes a replica in place {size.demotions} times, for {DEMOTED:g} s",
            load=_load(size),
            shown=str(seen),
            passed=seen.clean and seen.messages.gaps == 0,
        )


async def redis_failover(size: Size) -> Row:
    """Its replica takes over: as planned, and after a crash in turn."""
    crashes = size.failovers // 2
    async with loaded(size) as load:
        nodes = load.stage.nodes
        for number in range(size.failovers):
            await asyncio.sleep(size.pause)
            planned = number % 2 == 0
            await asyncio.to_thread(nodes.fail_over if planned else nodes.promote)
            # An address does not change at once.
            await asyncio.sleep(LATE)
            load.stage.redis_links.lead_to(nodes.primary.port)
            await load.back()
            if not planned:
                await asyncio.to_thread(nodes.restore)
        seen = await load.settle()
        told = crashes * size.clients
        return Row(
            fault=f"a replica of Redis takes over {size.failovers} times: as planned "
            f"(`FAILOVER`), and after its primary was killed, in turn",
            load=_load(size),
            shown=str(seen),
            passed=seen.clean and seen.messages.gaps == told,
        )

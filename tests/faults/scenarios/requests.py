"""Faults under requests: each has exactly one outcome."""

import asyncio

from tests.faults.checker import judge_requests
from tests.faults.load import asking
from tests.faults.report import Row
from tests.faults.scenarios.pushes import run
from tests.faults.scenarios.size import Size
from tests.faults.stage import stage


async def worker_kills(size: Size) -> Row:
    """Workers are killed while they run handlers."""
    async with (
        # Whose worker was killed gets an error at the deadline: sooner than by default.
        stage(workers=2, settings={"QUEUE_RUN_DEADLINE_GRACE": "1"}) as on,
        asking(size.askers, on.urls, rate=size.asker_rate, takes=size.takes) as askers,
    ):
        for number in range(size.worker_kills):
            await asyncio.sleep(size.pause)
            await on.kill_worker(number % 2)
        await asyncio.sleep(size.pause)
        await askers.stop()
        verdict = judge_requests(askers.requests, on.runs())
        return Row(
            fault=f"a worker is killed (SIGKILL) {size.worker_kills} times, of two",
            load=f"{size.askers} clients, each asking {size.asker_rate:g}/s",
            shown=str(verdict),
            # Without one request that was hit, the kills have shown nothing.
            passed=verdict.clean and 0 < verdict.ends["reply"] < verdict.asked,
        )


async def rolling_restart(size: Size) -> Row:
    """Everything is restarted in turn, workers first: a deployment."""
    async with (
        stage(workers=2) as on,
        run(size, on=on) as lab,
        asking(size.askers, on.urls, rate=size.asker_rate, takes=size.takes) as askers,
    ):
        for _ in range(size.rolling_restarts):
            for number in range(2):
                await on.restart_worker(number)
            for number in range(2):
                await on.restart_push_server(number)
            await asyncio.sleep(size.pause)
        await askers.stop()
        requests = judge_requests(askers.requests, on.runs())
        verdict = await lab.settle()
        answered = requests.ends["reply"] == requests.asked
        return Row(
            fault=f"everything is restarted in turn (SIGTERM), {size.rolling_restarts} times",
            load=f"{size.load}; {size.askers} clients, each asking {size.asker_rate:g}/s",
            shown=f"{verdict}; {requests}",
            passed=verdict.clean and verdict.gaps == 0 and requests.clean and answered,
        )

"""Machines that do not agree on what time it is."""

import asyncio
import json

from tests import wrong_clock
from tests.faults.checker import judge_requests
from tests.faults.load import asking
from tests.faults.report import Row
from tests.faults.scenarios.pushes import run
from tests.faults.scenarios.size import Size
from tests.faults.stage import Clocks, Stage, stage

#: Seconds by which push servers and workers are ahead.
CLOCKS = Clocks(push_servers=(20, -3600), workers=(3600, -20))


async def wrong_clocks(size: Size) -> Row:
    """No two processes have the same time, and one of each kind is restarted meanwhile."""
    if wrong_clock.library() is None:
        raise RuntimeError("libfaketime is missing: install the package faketime")
    async with (
        stage(workers=2, clocks=CLOCKS) as on,
        run(size, on=on) as lab,
        asking(size.askers, on.urls, rate=size.asker_rate, takes=size.takes) as askers,
    ):
        for _ in range(size.rolling_restarts):
            await asyncio.sleep(size.pause)
            await on.restart_worker(0)
            await on.restart_push_server(1)
        await asyncio.sleep(size.pause)
        told = _told(on)
        await askers.stop()
        requests = judge_requests(askers.requests, on.runs())
        verdict = await lab.settle()
        answered = requests.ends["reply"] == requests.asked
        return Row(
            fault="the clocks of two push servers are 20 s ahead and 1 h behind, those of two "
            "workers 1 h ahead and 20 s behind",
            load=f"{size.load}; {size.askers} clients, each asking {size.asker_rate:g}/s",
            shown=f"{verdict}; {requests}; `/readyz` names {told} clocks",
            passed=verdict.clean
            and verdict.gaps == 0
            and requests.clean
            and answered
            and told >= len(on.push_servers) + len(on.workers),
        )


def _told(on: Stage) -> int:
    """How many clocks a push server tells of."""
    _, body = on.push_servers[0].get("/readyz")
    return len(json.loads(body).get("notes", []))

"""Redis is full for a while: whatever grows is refused, and all else goes on."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.faults.checker import judge_requests
from tests.faults.load import Askers, asking
from tests.faults.report import Row
from tests.faults.scenarios.pushes import run
from tests.faults.scenarios.size import Size
from tests.faults.stage import Stage, now, stage, within
from tests.faults.work import JobsAtWork, jobs_at_work

#: Seconds within which requests and jobs are back when there is room again.
BACK_WITHIN = 15.0
#: Of the workers.
POOLS = (("solo",), ("prefork", "-c", "2"), ("threads", "-c", "4"))
#: By how large a part Redis may have less memory than it uses: so that nothing ever fits, or now
#: and then something does.
BELOW = (1.0, 0.02)
#: Jobs that wait when it becomes full; how many more come in a second, and how long each takes.
WAITING, RATE, TAKES = 100, 10.0, 0.1

SETTINGS = {
    # Who is refused has an error sooner than by default.
    "QUEUE_RUN_DEADLINE_GRACE": "1",
    # What a killed worker held is back while Redis is still full.
    "QUEUE_RUN_VISIBILITY_TIMEOUT": "6",
}


class Spell(NamedTuple):
    """Seconds of one time in which Redis was full."""

    #: From its beginning until the jobs that waited were done.
    emptied: float
    #: From its end until a request was answered, and until jobs of all kinds were done.
    answered: float
    done: float


async def full_redis(size: Size) -> Row:
    """While it is full, processes are started, stopped and killed, too."""
    async with (
        stage(workers=len(POOLS), pools=POOLS, notes_apart=True, settings=SETTINGS) as on,
        run(size, on=on) as lab,
        jobs_at_work(on, rate=RATE, takes=TAKES) as jobs,
        asking(size.askers, on.urls, rate=1, takes=size.takes) as askers,
    ):
        began = now()
        spells = []
        for number in range(size.fillings):
            await asyncio.sleep(size.pause)
            spells.append(await _fill(size, on, jobs, askers, number))
        await askers.stop()
        await jobs.stop()
        with contextlib.suppress(AssertionError):
            await within(jobs.all_done, "all jobs")
        requests = judge_requests(askers.requests, on.runs())
        verdict, work = await lab.settle(), jobs.verdict()
        refusals = [*lab.pusher.refusals, *jobs.refusals]
        unclear = [text for text in refusals if "Redis is full" not in text]
        flood = said_too_often(_outputs(on), minutes=(now() - began) / 60)
        worst = Spell(*map(max, zip(*spells, strict=True)))
        return Row(
            fault=f"Redis is full {size.fillings} times (`maxmemory`, `noeviction`); meanwhile one "
            "worker and one push server are killed, and one worker is stopped (SIGTERM), of three "
            "and two; others are started",
            load=f"{size.mild_load}; {RATE:g} jobs/s, {WAITING} that wait; workers solo, prefork "
            "and threads",
            shown=f"{verdict}; {requests}; {work}; {lab.pusher.failed} sends and "
            f"{len(jobs.refusals)} pushes raised, {len(unclear)} of them without the reason; the "
            f"jobs that waited were done after at most {worst.emptied:.1f} s; with room again, "
            f"requests are back after at most {worst.answered:.1f} s, jobs after "
            f"{worst.done:.1f} s; lines of the logs that came too often: {len(flood)}; all "
            f"processes alive: {'yes' if on.alive() else 'no'}",
            passed=verdict.clean
            and requests.clean
            and work.clean
            and on.alive()
            and bool(refusals)
            and not unclear
            and not flood
            and max(worst.answered, worst.done) <= BACK_WITHIN,
        )


async def _fill(size: Size, on: Stage, jobs: JobsAtWork, askers: Askers, number: int) -> Spell:
    for _ in range(WAITING):
        await asyncio.to_thread(jobs.push_one)
    used = on.redis.info("memory")["used_memory"]
    on.redis.config_set("maxmemory", max(1, int(used * (1 - BELOW[number % len(BELOW)]))))
    emptied, _ = await asyncio.gather(_emptied(on, jobs), _replace(on, number))
    await asyncio.sleep(size.full)
    on.redis.config_set("maxmemory", "0")
    answered, done = await _back(on, jobs, askers)
    return Spell(emptied, answered, done)


async def _emptied(on: Stage, jobs: JobsAtWork) -> float:
    """Seconds until the jobs that wait are done, but for those that send something."""
    began = now()
    waiting = {job.note for job in list(jobs.pushed) if job.kind != "failing"}
    await within(lambda: waiting <= set(on.jobs_ended()), "the jobs that waited to be done")
    return now() - began


async def _replace(on: Stage, number: int) -> None:
    """Others each time; of each kind one stays."""
    stopped = on.workers[(number + 1) % len(POOLS)]
    await asyncio.gather(
        on.kill_worker(number % len(POOLS)),
        on.restart_worker((number + 1) % len(POOLS)),
        on.kill_push_server(number % 2, ready=False),
    )
    assert stopped.wait() == 0, f"a worker that was stopped has failed:\n{stopped.output}"


async def _back(on: Stage, jobs: JobsAtWork, askers: Askers) -> tuple[float, float]:
    """Seconds until a later request is answered, and until a later job of each kind is done."""
    began = now()
    asked, pushed = len(askers.requests.outcomes), len(jobs.pushed)

    def answered() -> bool:
        later = list(askers.requests.outcomes.values())[asked:]
        return any("reply" in each for each in later)

    def done() -> bool:
        ended = on.jobs_ended()
        kinds = {job.kind for job in jobs.pushed[pushed:] if job.note in ended}
        return kinds == {"counted", "grouped", "failing"}

    async def after(check: Callable[[], bool], what: str) -> float:
        await within(check, what)
        return now() - began

    return await asyncio.gather(
        after(answered, "requests to be answered again"), after(done, "jobs to be done again")
    )


def _outputs(on: Stage) -> list[str]:
    return [process.output for process in (*on.stack.push_servers, *on.stack.workers)]


def said_too_often(outputs: Iterable[str], *, minutes: float) -> list[str]:
    """What processes have said of a full Redis more than once a minute, and tracebacks.

    Args:
        outputs: of each process.
    """
    found = []
    for output in outputs:
        lines = output.splitlines()
        # From the level on, whatever the numbers.
        about = Counter(
            re.sub(r"\d+", "N", re.sub(r"^.*?(?=WARNING|ERROR|CRITICAL|INFO)", "", line))
            for line in lines
            if "maxmemory" in line
        )
        found += [line for line, count in about.items() if count > 1 + minutes]
        found += [line for line in lines if line.lstrip().startswith("Traceback")]
    return found

"""Jobs as a load: pushed from a thread, plain, in a group, and such as fail once; and what ran."""

import asyncio
import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import cast

from queue_run import queues
from queue_run.errors import DispatchUnavailable
from tests.faults.stage import DEADLINE, Stage, now, within

KINDS = ("plain", "ordered", "retried")


@dataclass(slots=True)
class JobVerdict:
    """What became of the jobs of a run."""

    pushed: int
    failed: int
    lost: int
    out_of_order: int
    #: Attempts that were begun more than once, which a job may be.
    run_again: int

    @property
    def clean(self) -> bool:
        return not (self.lost or self.out_of_order)

    def __str__(self) -> str:
        return (
            f"{self.pushed:,} jobs ({self.failed:,} pushes raised): lost {self.lost:,}, out of "
            f"order {self.out_of_order:,}, run again {self.run_again:,}"
        )


def judge_jobs(pushed: Sequence[tuple[str, int]], failed: int, runs: Sequence[str]) -> JobVerdict:
    """
    Args:
        pushed: kind and number of each job whose push was confirmed.
        runs: kind, number and attempt of each run, in order.
    """
    parsed = [(kind, int(number)) for kind, number, _ in map(str.split, runs)]
    first = list(dict.fromkeys(number for kind, number in parsed if kind == "ordered"))
    ended = {job for job, count in Counter(parsed).items() if job[0] != "retried" or count > 1}
    return JobVerdict(
        pushed=len(pushed),
        failed=failed,
        lost=len(set(pushed) - ended),
        out_of_order=sum(later < earlier for earlier, later in itertools.pairwise(first)),
        run_again=len(runs) - len(set(runs)),
    )


class JobPusher:
    """Pushes jobs at a rate, after a pusher of messages has named this process's Redis."""

    def __init__(self, stage: Stage, *, rate: float) -> None:
        self._stage = stage
        self._pause = 1 / rate
        self.pushed: list[tuple[str, int]] = []
        self.failed = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job pusher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)

    def runs(self) -> list[str]:
        found = self._stage.redis.lrange(f"{self._stage.stack.namespace}:lab:jobs", 0, -1)
        return cast("list[str]", found)

    def judge(self) -> JobVerdict:
        return judge_jobs(self.pushed, self.failed, self.runs())

    async def settle(self) -> JobVerdict:
        """Push no more, wait until everything has run or will not, and judge."""
        await self.stop()
        with contextlib.suppress(AssertionError):
            await within(lambda: not self.judge().lost, "all jobs", deadline=DEADLINE / 2)
        return self.judge()

    def _run(self) -> None:
        for number in itertools.count():
            due = now() + self._pause
            self._push(KINDS[number % len(KINDS)], number)
            if self._stopped.wait(max(0.0, due - now())):
                return

    def _push(self, kind: str, number: int) -> None:
        queue = queues.get(kind)
        try:
            (queue.group("one") if kind == "ordered" else queue).push(number)
        except DispatchUnavailable:
            self.failed += 1
        else:
            self.pushed.append((kind, number))


@contextlib.asynccontextmanager
async def pushing_jobs(stage: Stage, *, rate: float) -> AsyncIterator[JobPusher]:
    """A pusher at work, and at rest at the end."""
    pusher = JobPusher(stage, rate=rate)
    pusher.start()
    try:
        yield pusher
    finally:
        await pusher.stop()

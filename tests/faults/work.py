"""Jobs under faults: pushed at a rate, noted by their handlers, told to their user."""

import asyncio
import contextlib
import itertools
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from queue_run import as_user, queues
from queue_run.client import connect
from queue_run.errors import InfrastructureError
from tests.faults.stage import Stage, now

log = logging.getLogger(__name__)

#: Who all jobs belong to.
USER = "jobs"
GROUPS = 4


@dataclass(frozen=True, slots=True)
class Pushed:
    """A job that the broker has confirmed."""

    kind: str
    number: int
    id: str
    group: str

    @property
    def note(self) -> str:
        """What its handler notes at its end."""
        return f"{self.kind} {self.number} {self.group}"


@dataclass(slots=True)
class WorkVerdict:
    """What became of the jobs of a run."""

    pushed: int = 0
    lost: int = 0
    out_of_order: int = 0
    #: Messages of jobs that were shown twice, and ends that were told twice.
    shown_twice: int = 0
    #: Ends of which the user was not told.
    untold: int = 0
    run_again: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.out_of_order or self.shown_twice or self.untold)

    def __str__(self) -> str:
        return (
            f"{self.pushed:,} jobs: lost {self.lost:,}, out of order {self.out_of_order:,}, shown "
            f"twice {self.shown_twice:,}, end not told {self.untold:,}, run again "
            f"{self.run_again:,}"
        )


def judge_work(
    pushed: Sequence[Pushed], ended: Sequence[str], messages: Sequence[dict[str, Any]]
) -> WorkVerdict:
    """Compare what was pushed with what handlers noted and the user was told.

    Args:
        ended: the notes of all runs to the end, in order.
        messages: all that the user got.
    """
    runs = Counter(ended)
    verdict = WorkVerdict(pushed=len(pushed))
    verdict.run_again = sum(count - 1 for count in runs.values())
    ends = Counter(each["job"] for each in messages if each.get("event") == "finished")
    shown = Counter(each["shown"] for each in messages if "shown" in each)
    for job in pushed:
        if not runs[job.note]:
            verdict.lost += 1
            verdict.examples.append(f"lost: {job}")
        elif not ends[job.id]:
            verdict.untold += 1
            verdict.examples.append(f"not told: {job}")
    verdict.shown_twice = sum(count > 1 for count in (*ends.values(), *shown.values()))
    verdict.out_of_order = _out_of_order(ended)
    return verdict


def _out_of_order(ended: Sequence[str]) -> int:
    """Jobs of a group that ended for the first time after a later one."""
    last: dict[str, int] = {}
    wrong = 0
    for note in dict.fromkeys(ended):
        kind, number, group = note.split(" ")
        if kind != "grouped":
            continue
        wrong += int(number) < last.get(group, -1)
        last[group] = max(last.get(group, -1), int(number))
    return wrong


class JobsAtWork:
    """Pushes jobs of all kinds from a thread of its own, and listens as their user."""

    def __init__(self, stage: Stage, *, rate: float, takes: float) -> None:
        self.pushed: list[Pushed] = []
        #: What pushes that failed have said.
        self.refusals: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self._stage = stage
        self._pause = 1 / rate
        self._takes = takes
        self._numbers = itertools.count()
        self._pushing = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job pusher", daemon=True)
        self._client = connect(stage.urls, token=USER, connect_timeout=60, grace=5)
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._client.open()
        self._listening = asyncio.create_task(self._listen())
        self._thread.start()

    async def stop(self) -> None:
        """Push no more."""
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)

    async def close(self) -> None:
        await self.stop()
        await self._client.close()
        if self._listening is not None:
            await self._listening

    def verdict(self) -> WorkVerdict:
        return judge_work(list(self.pushed), self._stage.jobs_ended(), list(self.messages))

    def all_done(self) -> bool:
        """Whether nothing is missing any more; for waiting."""
        verdict = self.verdict()
        return not (verdict.lost or verdict.untold)

    def push_one(self) -> Pushed | None:
        """Push the next job; None when it was refused."""
        with self._pushing:
            number = next(self._numbers)
            kind = ("counted", "grouped", "grouped", "failing")[number % 4]
            group = f"group-{number // 4 % GROUPS}" if kind == "grouped" else ""
            queue = queues.get(kind)
            try:
                with as_user(USER):
                    payload = {"number": number, "takes": self._takes}
                    job = (queue.group(group) if group else queue).push(payload)
            except InfrastructureError as error:
                self.refusals.append(f"{type(error).__name__}: {error}")
                log.info("not pushed: %s", error)
                return None
            self.pushed.append(Pushed(kind, number, str(job), group))
            return self.pushed[-1]

    def _run(self) -> None:
        due = now()
        while not self._stopped.wait(max(0.0, due - now())):
            due = max(due + self._pause, now() - self._pause)
            self.push_one()

    async def _listen(self) -> None:
        async for message in self._client:
            self.messages.append(message)


@contextlib.asynccontextmanager
async def jobs_at_work(stage: Stage, *, rate: float, takes: float) -> AsyncIterator[JobsAtWork]:
    """Jobs are pushed while the block lasts. `queues` of this process are those of the stage once a
    pusher was made (`tests.faults.load.Pusher`)."""
    jobs = JobsAtWork(stage, rate=rate, takes=takes)
    try:
        await jobs.start()
        yield jobs
    finally:
        await jobs.close()

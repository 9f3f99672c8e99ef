"""Nothing that was pushed is lost: workers and Redis are killed while jobs run.

The sizes are those of a quick run; QUEUE_RUN_TEST_SCALE=full raises them.
"""

import itertools
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from queue_run import dead_letters, queues
from queue_run.errors import InfrastructureError
from tests.acceptance.job_record import Entry, JobRecord, pushing_to
from tests.conftest import NewStack
from tests.processes import ROOT, Process, RedisServer, Stack
from tests.waiting import eventually

APP = ROOT / "tests" / "apps" / "jobs" / "faults"
FULL = os.environ.get("QUEUE_RUN_TEST_SCALE") == "full"

#: Jobs, and workers that are killed meanwhile.
JOBS, KILLS = (4000, 8) if FULL else (400, 3)
#: Jobs, and how often Redis is killed meanwhile.
REDIS_JOBS, REDIS_KILLS = (2000, 5) if FULL else (150, 2)
#: Jobs that wait for their turn meanwhile.
AHEAD = 30
#: Groups, jobs in each, and workers that are killed meanwhile.
GROUPS, GROUP_JOBS, GROUP_KILLS = (200, 50, 3) if FULL else (20, 20, 3)

#: Seconds that each job takes, but every so many-th, which is long enough to be killed with its
#: worker.
SECONDS, LONG_SECONDS, LONG_EVERY = 0.05, 1.5, 20
#: Seconds after which Redis hands out again what a killed worker held. Half of it is the lease of a
#: group, longer than a machine stalls: a worker that is taken for lost would not be alone with it.
VISIBILITY, GROUP_VISIBILITY = 10.0, 18.0
#: Seconds from the kill of a worker to the next run of its jobs; a busy machine takes longer.
BACK_WITHIN = VISIBILITY + 2.0
SLACK = 30.0
#: Seconds for all jobs of a test.
ALL_DONE = 900.0 if FULL else 120.0

pytestmark = pytest.mark.timeout(1200 if FULL else 180)

Arguments = tuple[str, ...]
PREFORK: Arguments = ("-P", "prefork", "-c", "2")
THREADS: Arguments = ("-P", "threads", "-c", "8")
SOLO: Arguments = ("-P", "solo")


class Fleet:
    """Workers that a test kills, and starts again as a supervisor would."""

    def __init__(self, stack: Stack, *pools: Arguments) -> None:
        self._stack = stack
        self._pools = pools
        self._started = 0
        self._random = random.Random(1)
        self.running: list[tuple[str, Process]] = [self._start(pool) for pool in pools]
        #: Name and time of each that was killed.
        self.killed: dict[str, float] = {}

    def kill_one(
        self, *, alone: bool = False, holds: Callable[[str], bool] = lambda name: True
    ) -> None:
        """SIGKILL one at random, and start another in its place.

        Args:
            alone: leave its children, if it has any, to themselves.
            holds: whether the one of this name has what it is killed for.
        """
        for _, process in self.running:
            process.wait_for_output("ready.")
        places = eventually(
            lambda: [place for place, (name, _) in enumerate(self.running) if holds(name)],
            what="a worker to kill",
        )
        place = self._random.choice(places)
        name, process = self.running[place]
        if alone:
            process.send(signal.SIGKILL)
            process.wait()
        else:
            process.kill()
        self.killed[name] = time.time()
        self.running[place] = self._start(self._pools[place])

    def _start(self, pool: Arguments) -> tuple[str, Process]:
        self._started += 1
        name = f"worker {self._started}"
        return name, self._stack.worker(*pool, TEST_WORKER=name)


@pytest.fixture
def stack(
    redis_server: RedisServer, new_stack: NewStack, request: pytest.FixtureRequest
) -> Iterator[Stack]:
    stack: Stack = new_stack(
        redis_server,
        APP,
        QUEUE_RUN_VISIBILITY_TIMEOUT=str(getattr(request, "param", VISIBILITY)),
        QUEUE_RUN_LOG_LEVEL="INFO",
    )
    with pushing_to(stack):
        yield stack


def report(text: str) -> None:
    """Figures, shown with `pytest -s`."""
    print(f"\n{text}")  # noqa: T201


def ended(record: JobRecord) -> set[Any]:
    return {entry["job"] for entry in record.all("end")}


def kill_along(
    total: int, kills: int, done: Callable[[], int], kill: Callable[[int], None]
) -> None:
    """Kill so many times, spread evenly over the jobs."""
    for number in range(1, kills + 1):
        enough = total * number // (kills + 1)
        eventually(
            lambda enough=enough: done() >= enough,  # type: ignore[misc]
            what=f"{enough} of {total} jobs",
            deadline=ALL_DONE,
        )
        kill(number)


# Workers


def test_no_job_is_lost_when_workers_are_killed(stack: Stack) -> None:
    fleet = Fleet(stack, PREFORK, THREADS)
    stack.wait_until_ready()
    record = JobRecord(stack)
    queue = queues.get("work")
    seconds = [LONG_SECONDS if n % LONG_EVERY == 0 else SECONDS for n in range(JOBS)]
    ids = [queue.push({"n": n, "seconds": each}).value for n, each in enumerate(seconds)]
    pushed, long = set(ids), set(ids[::LONG_EVERY])
    kill_along(
        *(JOBS, KILLS),
        done=lambda: len(ended(record)),
        # Every third time, the children of the worker are left to themselves.
        kill=lambda number: fleet.kill_one(
            alone=number % 3 == 0, holds=lambda name: bool(held_by(name, record) & long)
        ),
    )
    eventually(lambda: ended(record) >= pushed, what="all jobs", deadline=ALL_DONE)
    assert ended(record) == pushed
    assert dead_letters.newest().value == []
    waits = back_after_kills(record.all(), fleet.killed)
    report(
        f"{JOBS} jobs, {KILLS} workers killed: 0 lost, {len(record.all('begin')) - JOBS} more "
        f"runs; {len(waits)} jobs of killed workers were back after "
        f"{max(waits, default=0):.1f} s at most"
    )
    assert waits
    assert max(waits) < BACK_WITHIN + SLACK


def held_by(worker: str, record: JobRecord) -> set[Any]:
    """The jobs that a worker has begun and not ended."""
    return {entry["job"] for entry in record.all("begin", worker=worker)} - ended(record)


def back_after_kills(entries: list[Entry], killed: dict[str, float]) -> list[float]:
    """Seconds from a worker's kill to the next run of each job that it had begun and not ended."""
    waits = []
    runs: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        runs[entry["job"]].append(entry)
    for events in runs.values():
        for first, second in itertools.pairwise(events):
            # A child that outlived its worker ended its job.
            if first["what"] == "begin" and second["what"] == "begin":
                assert first["worker"] in killed
                waits.append(second["at"] - killed[first["worker"]])
    return waits


# FIFO groups


@pytest.mark.parametrize("stack", [GROUP_VISIBILITY], ids=["long lease"], indirect=True)
def test_groups_keep_their_order_when_workers_are_killed(stack: Stack) -> None:
    fleet = Fleet(stack, PREFORK, THREADS, SOLO)
    stack.wait_until_ready()
    record = JobRecord(stack)
    pushed, duplicates = push_groups()
    kill_along(
        *(len(pushed), GROUP_KILLS),
        done=lambda: len(ended(record)),
        kill=lambda number: fleet.kill_one(),
    )
    eventually(lambda: ended(record) >= set(pushed), what="all jobs", deadline=ALL_DONE)
    assert ended(record) == set(pushed)
    entries = record.all()
    again = assert_in_order(entries)
    beside = [entry for entry in record.all("begin") if is_beside(entry, fleet, record)]
    assert beside == []
    assert dead_letters.newest().value == []
    report(
        f"{GROUPS} groups of {GROUP_JOBS} jobs, {GROUP_KILLS} workers killed: 0 lost, 0 out of "
        f"order, 0 side by side, {again} more runs, {duplicates} duplicates dropped"
    )


def push_groups() -> tuple[list[str], int]:
    """Push jobs to all groups, every fifth of them twice; their ids in order, and how many
    duplicates there were."""
    pushed, duplicates = [], 0
    for n in range(GROUP_JOBS):
        for group in range(GROUPS):
            queue = queues.get("ordered").group(f"group {group}")
            # The same payload is the same job, unless its dedupe id is another one.
            payload = {"n": n, "seconds": SECONDS}
            if n % 3 == 0:
                queue = queue.dedupe(f"job {n}")
            first = queue.push(payload).value
            pushed.append(first)
            if n % 5 == 0:
                duplicates += 1
                assert queue.push(payload).value == first
    assert len(set(pushed)) == len(pushed) == GROUPS * GROUP_JOBS
    return pushed, duplicates


def assert_in_order(entries: list[Entry]) -> int:
    """Every group's jobs began one after the other, each after the end of the one before; how
    often one began again."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry["group"]].append(entry)
    again = 0
    for events in groups.values():
        begun = [entry["n"] for entry in events if entry["what"] == "begin"]
        assert begun == sorted(begun)
        again += len(begun) - len(set(begun))
        sequences = [entry["sequence"] for entry in events if entry["what"] == "begin"]
        assert sequences == sorted(sequences)
        done: set[int] = set()
        for entry in events:
            if entry["what"] == "end":
                done.add(entry["n"])
            elif entry["what"] == "begin":
                assert done >= set(range(entry["n"]))
    return again


def is_beside(begin: Entry, fleet: Fleet, record: JobRecord) -> bool:
    """Whether another job of the group was running when this one began: none that was killed."""
    holder = begin["beside"]
    if holder is None:
        return False
    job, attempt = holder.split()
    [held] = record.all("about to hold", job=job, attempt=int(attempt))
    killed_at = fleet.killed.get(held["worker"])
    return killed_at is None or killed_at > begin["at"]


# Redis


@pytest.mark.parametrize("pool", [PREFORK, THREADS], ids=["prefork", "threads"])
def test_a_worker_outlives_redis_and_no_job_is_lost(
    own_redis: RedisServer, new_stack: NewStack, pool: Arguments
) -> None:
    stack: Stack = new_stack(own_redis, APP, QUEUE_RUN_VISIBILITY_TIMEOUT=str(VISIBILITY))
    worker = stack.worker(*pool)
    stack.wait_until_ready()
    record = JobRecord(stack)
    pauses = []

    def kill(_: int) -> None:
        lost = worker.output.count("Connection to broker lost")
        own_redis.kill()
        killed = time.time()
        eventually(
            lambda: worker.output.count("Connection to broker lost") > lost,
            what="the worker to notice",
        )
        own_redis.start()
        eventually(
            lambda: any(entry["at"] > killed for entry in record.all("begin")),
            what="the worker to go on",
        )
        pauses.append(time.time() - killed)

    with pushing_to(stack):
        pusher = PatientPusher(REDIS_JOBS, JobRecord(stack))
        pusher.start()
        kill_along(REDIS_JOBS, REDIS_KILLS, lambda: len(done(record)), kill)
        eventually(lambda: len(done(record)) == REDIS_JOBS, what="all jobs", deadline=ALL_DONE)
        pusher.join()
        assert dead_letters.newest().value == []
    assert worker.running
    again = len(record.all("begin")) - REDIS_JOBS
    report(
        f"{REDIS_JOBS} jobs, Redis killed {REDIS_KILLS} times: 0 lost, {again} more runs (and "
        f"{pusher.repeated} pushes made again); the worker went on after {max(pauses):.1f} s "
        "at most"
    )


def done(record: JobRecord) -> set[int]:
    return {entry["n"] for entry in record.all("end")}


class PatientPusher(threading.Thread):
    """Pushes jobs little by little, each until the broker has taken it."""

    def __init__(self, count: int, record: JobRecord) -> None:
        super().__init__(daemon=True)
        self._count = count
        self._record = record
        #: Pushes that failed, and were made again; the broker may have taken them all the same.
        self.repeated = 0

    def run(self) -> None:
        for n in range(self._count):
            eventually(lambda n=n: n - len(done(self._record)) < AHEAD, what="room")  # type: ignore[misc]
            while not self._push(n):
                self.repeated += 1

    def _push(self, n: int) -> bool:
        try:
            queues.get("work").push({"n": n, "seconds": SECONDS})
        except InfrastructureError:
            return False
        return True

"""What the document says of jobs, in the three pools of Celery.

QUEUE_RUN_TEST_SCALE=full raises the sizes.
"""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queue_run import DeadLetter, as_user, dead_letters, queues
from queue_run.contracts.keys import Keys
from queue_run.errors import UnknownDeadLetter
from queue_run.process import runtime
from tests.acceptance.job_record import JobRecord, pushing_to
from tests.clients import Client, connected
from tests.conftest import NewStack, WriteApp, new_namespace
from tests.processes import ROOT, Process, RedisServer, Stack
from tests.waiting import eventually_async

APP = ROOT / "tests" / "apps" / "jobs"
FULL = os.environ.get("QUEUE_RUN_TEST_SCALE") == "full"

#: Asynchronous jobs that wait for a second each, and the seconds in which all of them must end.
WAITING_JOBS, WAITING_TIME = (500, 4.0) if FULL else (100, 60.0)

POOLS = {
    "prefork": ("-P", "prefork", "-c", "2"),
    "threads": ("-P", "threads", "-c", "8"),
    "solo": ("-P", "solo"),
}


def start_stack(redis_server: RedisServer, pool: str) -> Stack:
    stack = Stack(redis_server.url, APP, new_namespace())
    stack.push_server()
    keys = Keys(stack.namespace)
    served = f"{keys.sockets_queue},{keys.jobs_queue}"
    stack.worker(*POOLS[pool], "-Q", served, TEST_WORKER=pool)
    stack.wait_until_ready()
    return stack


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def running_stack(redis_server: RedisServer, pool: str) -> Iterator[Stack]:
    """A push server and a worker, whose pool is each of the three in turn."""
    stack = start_stack(redis_server, pool)
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


@pytest.fixture
def stack(running_stack: Stack) -> Iterator[Stack]:
    with pushing_to(running_stack):
        yield running_stack


@pytest.fixture
def record(stack: Stack) -> JobRecord:
    return JobRecord(stack)


#: For what only a pool that outlives its processes can do.
in_prefork = pytest.mark.parametrize("pool", ["prefork"], indirect=True)


def event(name: str, job: str, queue: str, **error: str) -> dict[str, str]:
    return {"event": name, "job": job, "queue": queue, **error}


async def assert_hears(client: Client, *expected: Any) -> None:
    """The next messages are these."""
    assert [await client.receive() for _ in expected] == list(expected)


async def assert_hears_no_more(client: Client) -> None:
    """One more question shows that nothing else was sent."""
    assert await client.ask("anything else?") == {"echo": "anything else?"}


async def letter_of(job: str) -> DeadLetter:
    """Wait for a job to be a dead letter: its user is told of it just before."""

    def found() -> list[DeadLetter]:
        return [
            each for each in runtime.current().dead_letters.newest(limit=9) if each.job.id == job
        ]

    [letter] = await eventually_async(found, what=f"the dead letter of {job}")
    return letter


# Failures


async def test_a_job_that_raises_is_retried_ever_later_then_parked_and_runs_when_asked_to(
    stack: Stack, record: JobRecord
) -> None:
    async with connected(stack.ws("/?user=broken-ann")) as ann:
        with as_user("broken-ann"):
            job = await queues.get("broken").push("pump")
        await assert_hears(ann, event("failed", job, "broken", error=f"internal error ({job})"))
        letter = await letter_of(job)
        assert (letter.attempts, letter.error) == (4, "RuntimeError: pump is broken")
        assert "in handler" in letter.traceback
        runs = record.all("begin", job=job)
        assert [run["attempt"] for run in runs] == [1, 2, 3, 4]
        pauses = [second["at"] - first["at"] for first, second in itertools.pairwise(runs)]
        # Twice as long each time, up to a fifth more or less.
        for pause, least in zip(pauses, (0.3, 0.6, 1.2), strict=True):
            assert pause > least * 0.8

        record.client.set(record.key("mended:pump"), 1)
        await dead_letters.retry(job)
        await assert_hears(ann, event("finished", job, "broken"))
        await assert_hears_no_more(ann)
        with pytest.raises(UnknownDeadLetter):
            await dead_letters.get(job)


@in_prefork
async def test_a_job_that_kills_its_worker_is_parked_after_its_attempts_while_others_go_on(
    stack: Stack, record: JobRecord
) -> None:
    async with connected(stack.ws("/?user=poison-ann")) as ann:
        with as_user("poison-ann"):
            job = await queues.get("poison").push("poison")
        others = [await queues.get("poison").push(f"fine {n}") for n in range(20)]
        heard = await ann.receive()
        letter = await letter_of(job)
        assert letter.attempts == 3
        assert letter.error.startswith("WorkerLost: ")
        assert heard == event("failed", job, "poison", error=heard["error"])
        assert [run["attempt"] for run in record.all("begin", job=job)] == [1, 2, 3]
        for other in others:
            assert len(await record.wait_async("begin", job=other)) == 1
        await assert_hears_no_more(ann)


@in_prefork
async def test_a_job_that_kills_its_worker_does_not_keep_its_group_or_others_for_ever(
    stack: Stack, record: JobRecord
) -> None:
    queue = queues.get("poison_group")
    async with connected(stack.ws("/?user=poison-bob")) as bob:
        with as_user("poison-bob"):
            job = await queue.group("sick").push("poison")
        next_one = await queue.group("sick").push("fine")
        others = [await queue.group(f"healthy {n}").push("fine") for n in range(10)]
        heard = await bob.receive()
        letter = await letter_of(job)
        assert (letter.attempts, letter.fifo) == (3, True)
        assert heard == event("failed", job, "poison_group", error=heard["error"])
        [after] = await record.wait_async("begin", job=next_one)
        runs = record.all("begin", job=job)
        assert [run["attempt"] for run in runs] == [1, 2, 3]
        assert after["at"] > runs[-1]["at"]
        for other in others:
            [run] = await record.wait_async("begin", job=other)
            assert run["at"] < runs[-1]["at"]
        await assert_hears_no_more(bob)


# Messages


@in_prefork
async def test_a_job_that_was_killed_in_the_middle_shows_each_message_once(stack: Stack) -> None:
    async with connected(stack.ws("/?user=progress-ann")) as ann:
        with as_user("progress-ann"):
            job = await queues.get("progress").push("same")
        await assert_hears(ann, *({"step": step} for step in range(1, 6)))
        await assert_hears(ann, event("finished", job, "progress"))
        await assert_hears_no_more(ann)


@in_prefork
async def test_what_a_later_attempt_sends_differently_is_shown(stack: Stack) -> None:
    async with connected(stack.ws("/?user=progress-bob")) as bob:
        with as_user("progress-bob"):
            job = await queues.get("progress").push("differs")
        await assert_hears(bob, {"step": 1}, {"step": 2, "attempt": 1}, {"step": 3})
        await assert_hears(bob, {"step": 2, "attempt": 2}, {"step": 4}, {"step": 5})
        await assert_hears(bob, event("finished", job, "progress"))
        await assert_hears_no_more(bob)


async def test_a_plain_celery_task_can_send(stack: Stack) -> None:
    async with connected(stack.ws("/?user=task-ann")) as ann:
        runtime.current().celery.send_task("app.tell", ("task-ann", "hello"))
        await assert_hears(ann, {"told": "hello"})
        await assert_hears_no_more(ann)


# Cancelling


@pytest.mark.parametrize("queue", ["long", "long_plain"])
async def test_a_job_that_runs_is_told_that_it_is_cancelled(
    stack: Stack, record: JobRecord, queue: str
) -> None:
    async with connected(stack.ws("/?user=cancel-ann")) as ann:
        with as_user("cancel-ann"):
            job = await queues.get(queue).push("long")
        await record.wait_async("begin", job=job)
        assert await queues.cancel(job)
        await record.wait_async("told", job=job)
        await assert_hears(ann, event("cancelled", job, queue))
        await eventually_async(
            lambda: record.client.hget(Keys(stack.namespace).job(job), "ended"), what="its end"
        )
        assert not await queues.cancel(job)
        assert len(record.all("begin", job=job)) == 1
        await assert_hears_no_more(ann)


async def test_a_job_that_waits_for_its_retry_is_cancelled_at_once(
    stack: Stack, record: JobRecord
) -> None:
    async with connected(stack.ws("/?user=cancel-bob")) as bob:
        with as_user("cancel-bob"):
            job = await queues.get("later").push("job")
        await eventually_async(
            lambda: record.client.zscore(Keys(stack.namespace).delayed, job), what="its wait"
        )
        assert await queues.cancel(job)
        await assert_hears(bob, event("cancelled", job, "later"))
        await assert_hears_no_more(bob)
        assert len(record.all("begin", job=job)) == 1


async def test_jobs_of_a_group_are_cancelled_before_and_while_they_run(
    stack: Stack, record: JobRecord
) -> None:
    group = queues.get("long_group").group("cancelled")
    async with connected(stack.ws("/?user=cancel-eve")) as eve:
        with as_user("cancel-eve"):
            first, second, third = [await group.push(each) for each in ("long", "long 2", "short")]
        await record.wait_async("begin", job=first)
        assert await queues.cancel(second)
        assert await queues.cancel(first)
        await record.wait_async("told", job=first)
        await assert_hears(
            *(eve, event("cancelled", first, "long_group")),
            *(event("cancelled", second, "long_group"), event("finished", third, "long_group")),
        )
        await assert_hears_no_more(eve)
        assert record.all("begin", job=second) == []


async def test_a_job_of_a_group_that_waits_for_its_retry_is_cancelled_at_once(
    stack: Stack, record: JobRecord
) -> None:
    group = queues.get("long_group").group("failing")
    async with connected(stack.ws("/?user=cancel-tom")) as tom:
        with as_user("cancel-tom"):
            first, second = await group.push("fails"), await group.push("short")
        lease = Keys(stack.namespace).group_lease("long_group:failing")
        await eventually_async(lambda: record.client.get(lease) == "postponed", what="its wait")
        assert await queues.cancel(first)
        await assert_hears(
            *(tom, event("cancelled", first, "long_group")),
            event("finished", second, "long_group"),
        )
        await assert_hears_no_more(tom)
        assert len(record.all("begin", job=first)) == 1


# Time limits


async def test_a_plain_job_is_stopped_at_its_timeout_or_told_in_a_thread(
    stack: Stack, record: JobRecord, pool: str
) -> None:
    async with connected(stack.ws("/?user=late-ann")) as ann:
        with as_user("late-ann"):
            job = await queues.get("late").push("listens" if pool == "threads" else "works on")
        if pool == "threads":
            [told] = await record.wait_async("told", job=job)
            await assert_hears(ann, event("finished", job, "late"))
        else:
            [told] = await record.wait_async("interrupted", job=job)
            assert told["told"]
            heard = await ann.receive()
            assert heard == event("failed", job, "late", error=heard["error"])
            assert (await letter_of(job)).error.startswith("HandlerTimeout: ")
        # Two seconds after its attempt began, and its own code a little later.
        assert 0.5 <= told["after"] < 15


async def test_an_asynchronous_job_is_cancelled_at_its_timeout(
    stack: Stack, record: JobRecord
) -> None:
    async with connected(stack.ws("/?user=late-bob")) as bob:
        with as_user("late-bob"):
            job = await queues.get("late_async").push("sleeps")
        [told] = await record.wait_async("cancelled", job=job)
        assert 0.5 <= told["after"] < 15
        heard = await bob.receive()
        assert heard == event("failed", job, "late_async", error=heard["error"])
        assert (await letter_of(job)).error.startswith("HandlerTimeout: ")


# What a job is given


@pytest.mark.parametrize("queue", ["facts", "facts_async", "facts_group", "facts_group_async"])
async def test_a_job_is_given_all_that_is_known_of_it(
    stack: Stack, record: JobRecord, queue: str
) -> None:
    pushed = queues.get(queue)
    group = "of mine" if "group" in queue else None
    if group is not None:
        pushed = pushed.group(group)
    user = {"id": "facts-ann", "name": "Ann"}
    before = time.time()
    with as_user(user):
        first = await pushed.push({"n": 1}, params={"page": "3"})
    second = await pushed.push("text")
    [of_first] = await record.wait_async("facts", job=first)
    [of_second] = await record.wait_async("facts", job=second)
    # By Redis' clock, whose difference to ours is measured over a link that may take its time.
    assert before - 1 <= of_first["queued_at"] <= time.time() + 1
    assert of_first["queued_at"] - 1 <= of_second["queued_at"] <= time.time() + 1
    expected = {"queue_name": queue, "attempt": 1, "group_id": group, "signal": False}
    assert (
        of_first.items()
        >= {**expected, "payload": {"n": 1}, "user": user, "params": {"page": "3"}}.items()
    )
    assert of_second.items() >= {**expected, "payload": "text", "user": None, "params": {}}.items()
    numbers = [of_first["sequence_number"], of_second["sequence_number"]]
    if group is None:
        assert numbers == [None, None]
    else:
        assert 0 < numbers[0] < numbers[1]


async def test_middleware_is_called_around_every_attempt(stack: Stack, record: JobRecord) -> None:
    user = {"id": "hooked-ann"}
    with as_user(user):
        fine, mended, broken = [
            await queues.get("hooked").push(each) for each in ("works", "fails once", "fails")
        ]

    def calls(job: str) -> list[tuple[str, int]]:
        return [(entry["what"], entry["attempt"]) for entry in record.all(job=job)]

    await record.wait_async("finished", job=fine)
    assert calls(fine) == [("started", 1), ("begin", 1), ("finished", 1)]
    await record.wait_async("finished", job=mended)
    failed = [("started", 1), ("begin", 1), ("error", 1), ("started", 2), ("begin", 2)]
    assert calls(mended) == [*failed, ("finished", 2)]
    await letter_of(broken)
    assert calls(broken) == [*failed, ("error", 2)]
    [error] = record.all("error", job=mended)
    assert (error["error"], error["payload"]) == ("ValueError('fails once')", "fails once")
    assert (error["queue"], error["user"]) == ("hooked", user)


# Workers


async def test_asynchronous_jobs_of_one_process_wait_side_by_side(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack: Stack = new_stack(redis_server, APP)
    stack.worker("-P", "threads", "-c", str(WAITING_JOBS))
    stack.wait_until_ready()
    record = JobRecord(stack)
    with pushing_to(stack):
        began = time.monotonic()
        for _ in range(WAITING_JOBS):
            await queues.get("wait").push(1.0)
        await record.wait_async("end", WAITING_JOBS)
    took = time.monotonic() - began
    print(f"\n{WAITING_JOBS} jobs that wait 1 s each: {took:.1f} s")  # noqa: T201
    assert took < WAITING_TIME


@in_prefork
async def test_a_celery_queue_of_its_own_waits_for_its_worker(
    stack: Stack, record: JobRecord
) -> None:
    """What is cancelled meanwhile never runs."""
    async with connected(stack.ws("/?user=heavy-ann")) as ann:
        with as_user("heavy-ann"):
            cancelled, heavy = [
                await queues.get("heavy").push({"n": n, "seconds": 0}) for n in range(2)
            ]
        usual = await queues.get("work").push({"n": 0, "seconds": 0})
        await record.wait_async("end", job=usual)
        assert await queues.cancel(cancelled)
        worker = stack.worker("-P", "solo", queues="heavy", TEST_WORKER="heavy")
        other = await queues.get("work").push({"n": 1, "seconds": 0})
        await assert_hears(
            *(ann, event("cancelled", cancelled, "heavy"), event("finished", heavy, "heavy"))
        )
        [run] = record.all("end", job=heavy)
        assert run["worker"] == "heavy"
        assert record.all("begin", job=cancelled) == []
        for job in (usual, other):
            [run] = await record.wait_async("end", job=job)
            assert run["worker"] == "prefork"
    worker.send(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait) == 0


@in_prefork
async def test_beat_pushes_the_jobs_of_a_schedule(
    stack: Stack, record: JobRecord, tmp_path: Path
) -> None:
    began = time.time()
    beat = Process(
        [
            *(sys.executable, "-m", "celery", "-A", "worker", "beat"),
            *("-s", str(tmp_path / "beat"), "-l", "INFO"),
        ],
        environ=stack.environ(),
    )
    try:
        ticks = await record.wait_async("tick", 3)
    finally:
        beat.end()
    assert len({tick["job"] for tick in ticks}) == len(ticks)
    # And not since the first one: a worker that stands still runs those of meanwhile at once.
    assert ticks[2]["at"] - began > 1.0
    assert ticks[0]["payload"] is None


@pytest.mark.parametrize("timeout", ["600", "601.5"])
def test_a_worker_does_not_start_where_a_job_may_run_longer_than_the_visibility_timeout(
    redis_server: RedisServer, new_stack: NewStack, write_app: WriteApp, timeout: str
) -> None:
    app = write_app(
        {
            "queues/report.py": f"""
from queue_run import Config
config = Config(timeout={timeout})
def handler(job): ...
"""
        }
    )
    worker = new_stack(redis_server, app).worker("-P", "solo")
    assert worker.wait() == 2
    assert "QUEUE_RUN_VISIBILITY_TIMEOUT=600" in worker.output
    assert f"queues/report.py says that a job may take {timeout} seconds" in worker.output

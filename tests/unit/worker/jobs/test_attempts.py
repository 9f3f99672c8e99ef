"""Jobs, from the broker's message to their end, with a real Redis and without a broker."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from queue_run import ClientError, Signal
from queue_run.application.requests import Job
from queue_run.contracts.envelopes import ToUsers
from queue_run.errors import DispatchUnavailable, JobStoreUnavailable, WorkerLost
from queue_run.jobs.groups import Group
from queue_run.jobs.stored import DeadLetter, JobFacts, StoredJob
from queue_run.process import runtime
from queue_run.process.runtime import Runtime
from queue_run.settings import Settings
from tests.processes import RedisServer
from tests.unit.recorders import RecordingPublisher
from tests.unit.worker.building import hook, queue
from tests.waiting import DEADLINE, eventually
from worker.application.middleware import Hooks
from worker.application.routes import JobHandler, Routes
from worker.jobs import attempts as jobs_module
from worker.jobs.attempts import Jobs, token_prefix
from worker.running.intake import Intake

ANN = JobFacts(user={"id": "ann"}, queued_at=17.5)
IN_GROUP = JobFacts(user={"id": "ann"}, queued_at=17.5, group="g")
JOB = StoredJob(id="job-1", queue="mail", payload={"n": 1}, facts=ANN)
LANE = Group("mail", "g")


class Here:
    """The jobs of one process, and what Redis and the channel know of them."""

    def __init__(self, redis: RedisServer, namespace: str, publisher: RecordingPublisher) -> None:
        self.settings = Settings(redis_url=redis.url, namespace=namespace, max_message_bytes=2048)
        self.runtime: Runtime = runtime.configure(self.settings)
        self.runtime.__dict__["publisher"] = publisher
        self.publisher = publisher
        self.client = redis.client()
        self.intake = Intake(Routes(), self.runtime)
        self.stopping = False
        self.dying = False
        self.drains: list[Group] = []
        self.jobs = self.another_process()

    def another_process(self) -> Jobs:
        return Jobs(
            self.settings,
            lambda: self.intake,
            stopping=lambda: self.stopping,
            dying=lambda: self.dying,
            send_drain=self.drains.append,
        )

    def waits(self) -> bool:
        """Whether the job waits for another attempt."""
        return bool(self.client.zscore(self.runtime.keys.delayed, JOB.id))

    def ended(self, job_id: str = JOB.id) -> str | None:
        found = self.client.hget(self.runtime.keys.job(job_id), "ended")
        assert found is None or isinstance(found, str)
        return found

    def letter(self) -> DeadLetter:
        [letter] = self.runtime.dead_letters.newest(limit=2)
        return letter

    @property
    def told(self) -> list[Any]:
        """What users were told of the ends of jobs."""
        return [msgspec.json.decode(each.message.data) for each in self._told]

    @property
    def told_ids(self) -> list[bytes]:
        return [each.id for each in self._told]

    @property
    def _told(self) -> list[ToUsers]:
        return [each for each in self.publisher.envelopes if isinstance(each, ToUsers)]

    def push(self, *ids: str, facts: JobFacts = IN_GROUP) -> None:
        """Push jobs to a group."""
        for job_id in ids:
            job = StoredJob(id=job_id, queue="mail", payload=job_id, facts=facts)
            self.runtime.groups.push(job, dedupe=job_id)

    def close(self) -> None:
        self.intake.wind_down(DEADLINE)
        self.jobs.close()
        self.runtime.close()
        self.client.close()


@pytest.fixture
def here(
    redis_server: RedisServer, namespace: str, no_runtime: None, publisher: RecordingPublisher
) -> Iterator[Here]:
    here = Here(redis_server, namespace, publisher)
    yield here
    here.close()


def failing(failure: BaseException) -> Callable[..., Any]:
    def fail(job: object) -> None:
        raise failure

    return fail


def nothing(job: object) -> None:
    pass


# An attempt


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_a_job_runs_and_has_finished(here: Here, asynchronous: bool) -> None:
    got: list[Any] = []

    def plain(job: Any, user: Any, job_id: Any, queued_at: Any, attempt: Any) -> None:
        got.append((job, user, job_id, queued_at, attempt))

    async def later(job: Any, user: Any, job_id: Any, queued_at: Any, attempt: Any) -> None:
        plain(job, user, job_id, queued_at, attempt)

    here.jobs.run(queue(later if asynchronous else plain), JOB)
    assert got == [({"n": 1}, {"id": "ann"}, "job-1", 17.5, 1)]
    assert here.ended() == "finished"


def test_a_job_that_comes_again_after_its_end_does_not_run_again(here: Here) -> None:
    ran: list[object] = []
    for _ in range(2):
        here.jobs.run(queue(ran.append), JOB)
    assert len(ran) == 1


def test_a_job_that_comes_again_while_it_runs_waits_until_its_lease_would_end(here: Here) -> None:
    ran: list[object] = []

    def handler(job: object) -> None:
        ran.append(job)
        here.another_process().run(queue(ran.append), JOB)
        assert here.waits()

    here.jobs.run(queue(handler), JOB)
    assert len(ran) == 1
    assert here.ended() == "finished"


@pytest.mark.parametrize(
    "failure",
    [LookupError("x"), SystemExit(3), StopIteration(), asyncio.CancelledError(), MemoryError()],
    ids=repr,
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_a_job_that_fails_comes_again(
    here: Here, failure: BaseException, asynchronous: bool
) -> None:
    async def fail(job: object) -> None:
        raise failure

    here.jobs.run(queue(fail if asynchronous else failing(failure), backoff=30), JOB)
    assert here.waits()
    assert here.ended() is None


def test_a_job_whose_attempts_are_used_up_is_parked_with_its_error(here: Here) -> None:
    attempts: list[int] = []

    def fail(job: object, attempt: int) -> None:
        attempts.append(attempt)
        raise LookupError("no such mail")

    for _ in range(3):
        here.jobs.run(queue(fail, retries=2), JOB)
    assert attempts == [1, 2, 3]
    letter = here.letter()
    assert (letter.job, letter.attempts, letter.fifo) == (JOB, 3, False)
    assert letter.error == "LookupError: no such mail"
    assert "in fail" in letter.traceback
    assert here.ended() == "failed"


def test_backoff_doubles_and_is_never_the_same(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = queue(nothing, backoff=10, retries=99)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    assert [here.jobs._backoff(handler, JOB, n) for n in (1, 2, 3)] == [12.0, 24.0, 48.0]
    assert here.jobs._backoff(handler, JOB, 60) == 3600 * 1.2
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    assert here.jobs._backoff(handler, JOB, 1) == 8.0


def test_a_payload_that_does_not_fit_is_parked_at_once_without_a_traceback_of_ours(
    here: Here,
) -> None:
    def refuse(payload: object) -> None:
        raise ClientError("payload.n: expected `str`, got `int`")

    here.jobs.run(queue(nothing, validate=refuse), JOB)
    letter = here.letter()
    assert letter.attempts == 1
    assert letter.error == (
        "InvalidPush: mail does not take this payload: payload.n: expected `str`, got `int`"
    )


def test_a_job_without_a_group_for_a_fifo_queue_is_parked_at_once(here: Here) -> None:
    ran: list[object] = []
    here.jobs.run(queue(ran.append, fifo=True), JOB)
    assert here.letter().error.startswith("InvalidPush: mail is a FIFO queue")
    assert ran == []


@pytest.mark.parametrize("text", ["\ud800", "x" * 1_000_000])
def test_a_job_whose_error_is_strange_is_parked_and_told_all_the_same(
    here: Here, text: str
) -> None:
    here.jobs.run(queue(failing(ClientError(text)), retries=0, notify=True), JOB)
    assert here.letter().error.startswith("ClientError: ")
    assert len(here.told) == 1


def test_an_error_without_a_text_is_parked_all_the_same(here: Here) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise LookupError

    here.jobs.run(queue(failing(Mute()), retries=0), JOB)
    assert here.letter().error == "Mute: (its text cannot be had: LookupError)"


def test_a_process_that_is_told_to_end_leaves_its_job_to_the_broker(here: Here) -> None:
    told: list[object] = []

    def ended(job: object) -> None:
        here.dying = True
        raise SystemExit(-241)

    hooks = Hooks(error=hook(lambda error, job: told.append(error)))
    with pytest.raises(SystemExit):
        here.jobs.run(queue(ended, hooks=hooks), JOB)
    assert (here.waits(), here.ended(), told) == (False, None, [])


def test_a_keyboard_interrupt_is_the_processs_own(here: Here) -> None:
    with pytest.raises(KeyboardInterrupt):
        here.jobs.run(queue(failing(KeyboardInterrupt())), JOB)
    assert here.ended() is None


# Middleware


def test_an_on_job_started_that_fails_fails_the_attempt(here: Here) -> None:
    ran: list[object] = []
    hooks = Hooks(started=hook(failing(LookupError())))
    here.jobs.run(queue(ran.append, hooks=hooks), JOB)
    assert (ran, here.waits()) == ([], True)


def test_an_on_job_finished_that_fails_does_not_fail_the_job(here: Here) -> None:
    hooks = Hooks(finished=hook(failing(LookupError())))
    here.jobs.run(queue(nothing, hooks=hooks), JOB)
    assert here.ended() == "finished"


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_on_error_is_told_of_every_failed_attempt(here: Here, asynchronous: bool) -> None:
    told: list[Any] = []

    async def later(job: object) -> None:
        raise LookupError("x")

    def note(error: BaseException, job: Job) -> None:
        told.append((type(error), job.job_id, job.attempt))

    handler = queue(
        later if asynchronous else failing(LookupError("x")),
        retries=1,
        hooks=Hooks(error=hook(note)),
    )
    for _ in range(2):
        here.jobs.run(handler, JOB)
    assert told == [(LookupError, "job-1", 1), (LookupError, "job-1", 2)]


# Lost workers


def lose(here: Here, handler: JobHandler) -> None:
    """Begin an attempt in a process that then dies."""
    token = token_prefix(4711) + "x"
    assert here.runtime.attempts.begin(JOB.id, token, most=handler.attempts).verdict == "run"
    here.runtime.attempts.release(JOB.id, token_prefix(4711))


def test_a_job_whose_worker_was_lost_in_its_last_attempt_is_parked_and_told(here: Here) -> None:
    told: list[Any] = []
    hooks = Hooks(error=hook(lambda error, job: told.append((str(error), job.attempt))))
    handler = queue(nothing, retries=0, notify=True, hooks=hooks)
    lose(here, handler)
    here.jobs.run(handler, JOB)
    lost = "the worker was lost during attempt 1"
    assert told == [(lost, 1)]
    assert (here.letter().error, here.letter().traceback) == (f"WorkerLost: {lost}", "")
    assert here.told == [{"event": "failed", "job": "job-1", "queue": "mail", "error": lost}]
    assert WorkerLost(1).attempt == 1


# Cancelling and shutting down


def test_a_job_that_was_cancelled_before_it_began_does_not_run(here: Here) -> None:
    ran: list[object] = []
    assert here.runtime.attempts.cancel(JOB.id)
    here.jobs.run(queue(ran.append, notify=True), JOB)
    assert (ran, here.ended()) == ([], "cancelled")
    assert here.told == [{"event": "cancelled", "job": "job-1", "queue": "mail"}]


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "ends"])
def test_a_job_that_is_cancelled_while_it_runs_is_told_by_its_signal_and_has_no_more_attempts(
    here: Here, fails: bool
) -> None:
    told: list[bool] = []

    def handler(job: object, signal: Signal) -> None:
        here.runtime.attempts.cancel(JOB.id)
        told.append(signal.wait(DEADLINE))
        if fails:
            raise LookupError

    here.jobs.run(queue(handler, notify=True), JOB)
    assert told == [True]
    assert (here.ended(), here.waits()) == ("cancelled", False)
    assert [each["event"] for each in here.told] == ["cancelled"]


def test_a_job_is_told_when_its_worker_is_about_to_end(here: Here) -> None:
    told: list[bool] = []

    def handler(job: object, signal: Signal) -> None:
        here.stopping = True
        told.append(signal.wait(DEADLINE))

    here.jobs.run(queue(handler), JOB)
    assert (told, here.ended()) == ([True], "finished")


# FIFO groups


def test_the_jobs_of_a_group_run_in_order_one_at_a_time(here: Here) -> None:
    ran: list[Any] = []
    here.push("a", "b", "c")

    def handler(job: Any, group_id: Any, sequence_number: Any, attempt: Any) -> None:
        ran.append((job, group_id, sequence_number, attempt))

    here.jobs.drain(queue(handler, fifo=True), "g")
    assert ran == [("a", "g", 1, 1), ("b", "g", 2, 1), ("c", "g", 3, 1)]
    assert here.drains == []


def test_each_job_of_a_group_has_the_whole_time_of_its_queue(here: Here) -> None:
    here.push("a", "b", "c", "d")
    ran: list[object] = []

    def handler(job: object) -> None:
        threading.Event().wait(0.2)
        ran.append(job)

    here.jobs.drain(queue(handler, fifo=True, timeout=0.5), "g")
    assert ran == ["a", "b", "c", "d"]


def test_a_group_is_drained_by_one_worker_at_a_time(here: Here) -> None:
    ran: list[Any] = []
    here.push("a", "b")

    def handler(job: Any) -> None:
        ran.append(job)
        here.another_process().drain(queue(ran.append, fifo=True), "g")

    here.jobs.drain(queue(handler, fifo=True), "g")
    assert ran == ["a", "b"]


def test_a_job_that_fails_keeps_its_group_back_until_its_retry(here: Here) -> None:
    ran: list[Any] = []
    here.push("a", "b")

    def handler(job: Any, attempt: int) -> None:
        ran.append((job, attempt))
        if attempt == 1:
            raise LookupError

    fifo = queue(handler, fifo=True, backoff=0.01)
    here.jobs.drain(fifo, "g")
    assert ran == [("a", 1)]

    def goes_on() -> bool:
        here.jobs.drain(fifo, "g")
        return ("b", 2) in ran

    eventually(goes_on, what="the second attempts")
    assert ran == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_a_job_of_a_group_that_has_failed_for_good_gives_way_to_the_next(here: Here) -> None:
    ran: list[Any] = []
    here.push("a", "b")

    def handler(job: Any) -> None:
        ran.append(job)
        if job == "a":
            raise ClientError("bad")

    here.jobs.drain(queue(handler, fifo=True, retries=0, notify=True), "g")
    assert ran == ["a", "b"]
    letter = here.letter()
    assert (letter.job.id, letter.sequence, letter.fifo) == ("a", 1, True)
    assert [(each["event"], each["job"]) for each in here.told] == [
        ("failed", "a"),
        ("finished", "b"),
    ]


def test_a_job_of_a_group_that_is_cancelled_gives_way_to_the_next(here: Here) -> None:
    ran: list[Any] = []
    here.push("a", "b", "c")
    here.runtime.attempts.cancel("a")

    def handler(job: Any, signal: Signal) -> None:
        ran.append(job)
        if job == "b":
            here.runtime.attempts.cancel("b")
            assert signal.wait(DEADLINE)

    here.jobs.drain(queue(handler, fifo=True, notify=True), "g")
    assert ran == ["b", "c"]
    assert [(each["event"], each["job"]) for each in here.told] == [
        ("cancelled", "a"),
        ("cancelled", "b"),
        ("finished", "c"),
    ]


@pytest.mark.parametrize("why", ["time", "shutdown"])
def test_a_drain_gives_its_place_to_other_jobs(
    here: Here, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    ran: list[Any] = []
    here.push("a", "b")

    def handler(job: Any) -> None:
        ran.append(job)
        here.stopping = why == "shutdown"

    monkeypatch.setattr(jobs_module, "DRAIN_TIME", 0.0 if why == "time" else DEADLINE)
    here.jobs.drain(queue(handler, fifo=True), "g")
    assert (ran, here.drains) == (["a"], [LANE])
    here.stopping = False
    here.jobs.drain(queue(handler, fifo=True), "g")
    assert ran == ["a", "b"]


def test_the_jobs_of_a_group_run_when_their_queue_is_no_fifo_queue_any_more(here: Here) -> None:
    ran: list[Any] = []
    here.push("a", "b")
    here.jobs.drain(queue(ran.append), "g")
    assert ran == ["a", "b"]


def test_a_drain_that_cannot_send_the_next_one_says_so(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(group: Group) -> None:
        raise DispatchUnavailable("the broker is away")

    here.push("a", "b")
    monkeypatch.setattr(jobs_module, "DRAIN_TIME", 0.0)
    monkeypatch.setattr(here.jobs, "_send_drain", refuse)
    with pytest.raises(DispatchUnavailable):
        here.jobs.drain(queue(nothing, fifo=True), "g")
    # The group was given back: the drain that the broker hands out again goes on at once.
    ran: list[Any] = []
    here.another_process().drain(queue(ran.append, fifo=True), "g")
    assert ran == ["b"]


# Redis is away


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "PATIENCE", 0.2)


@pytest.fixture
def alone(
    impatient: None,
    own_redis: RedisServer,
    namespace: str,
    no_runtime: None,
    publisher: RecordingPublisher,
) -> Iterator[Here]:
    """With a Redis that may be killed."""
    alone = Here(own_redis, namespace, publisher)
    yield alone
    alone.close()


def test_a_job_does_not_begin_while_redis_is_away(alone: Here, own_redis: RedisServer) -> None:
    ran: list[object] = []
    own_redis.kill()
    with pytest.raises(JobStoreUnavailable):
        alone.jobs.run(queue(ran.append), JOB)
    with pytest.raises(JobStoreUnavailable):
        alone.jobs.drain(queue(ran.append, fifo=True), "g")
    assert ran == []


@pytest.mark.parametrize("end", ["finished", "retried", "parked"])
def test_the_end_of_a_job_is_never_taken_for_written_while_redis_is_away(
    alone: Here, own_redis: RedisServer, end: str
) -> None:
    def handler(job: object) -> None:
        own_redis.kill()
        if end != "finished":
            raise LookupError

    with pytest.raises(JobStoreUnavailable):
        alone.jobs.run(queue(handler, retries=1 if end == "retried" else 0), JOB)


def test_a_redis_that_comes_back_soon_is_waited_for(
    alone: Here, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "PATIENCE", DEADLINE)
    starting: list[threading.Thread] = []

    def handler(job: object) -> None:
        own_redis.kill()
        starting.append(threading.Thread(target=own_redis.start))
        starting[0].start()

    patient = alone.another_process()
    patient.run(queue(handler), JOB)
    starting[0].join(DEADLINE)
    assert alone.ended() == "finished"
    patient.close()

"""Running one attempt of a job: middleware, handler, time limit."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from queue_run import HandlerTimeout, InvalidPush, OutsideCall, Signal, socket
from queue_run.application.payloads import validator
from queue_run.application.requests import Job
from queue_run.contracts.envelopes import ToUsers
from queue_run.process import context
from queue_run.process.runtime import Runtime
from tests.unit.recorders import RecordingPublisher
from tests.unit.worker.building import hook, queue
from tests.waiting import DEADLINE, eventually
from worker.application.middleware import Hooks
from worker.application.routes import JobHandler, Routes
from worker.running.intake import Intake
from worker.running.job_runner import call_of, run_async_job, run_plain_job, tell_failure

#: A timeout that passes at once.
SOON = 0.02

ANN = {"id": "ann"}


class Runs:
    """Runs attempts as a worker process does: plain ones here, asynchronous ones on its loop."""

    def __init__(self, here: Runtime) -> None:
        self.intake = Intake(Routes(), here)

    def start(self, handler: JobHandler, job: Job) -> Any:
        limited, middleware = self.intake.runner.limited, self.intake.middleware
        if handler.is_async:
            return self.on_loop(run_async_job(handler, job, limited=limited, middleware=middleware))
        return run_plain_job(handler, job, limited=limited, on_loop=self.on_loop)

    def run(self, function: Callable[..., Any], payload: Any = "payload", **options: Any) -> Any:
        """Run a function once as a job of ann's; what it returns."""
        job = Job(job_id="job-1", queue_name="mail", payload=payload, user=ANN)
        return self.start(queue(function, **options), job)

    def on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.intake.background.submit(work).result(DEADLINE)


@pytest.fixture
def runs(process: Runtime) -> Iterator[Runs]:
    runs = Runs(process)
    yield runs
    runs.intake.wind_down(DEADLINE)


def both(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """A plain function, and the asynchronous one that does the same."""

    async def asynchronous(job: Any) -> Any:
        return function(job)

    return [function, asynchronous]


KINDS = pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])


# Payload and parameters


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_a_job_gets_its_payload_and_what_it_asks_for(runs: Runs, asynchronous: bool) -> None:
    def plain(
        anything: Any,
        user: Any,
        job_id: Any,
        queue_name: Any,
        queued_at: Any,
        attempt: Any,
        group_id: Any,
        sequence_number: Any,
        signal: Any,
        params: Any,
    ) -> Any:
        facts = (user, job_id, queue_name, queued_at, attempt, group_id, sequence_number, params)
        return anything, facts, signal

    async def later(
        anything: Any,
        *,
        user: Any,
        job_id: Any,
        queue_name: Any,
        queued_at: Any,
        attempt: Any,
        group_id: Any,
        sequence_number: Any,
        signal: Any,
        params: Any,
    ) -> Any:
        facts = (user, job_id, queue_name, queued_at, attempt, group_id, sequence_number, params)
        return anything, facts, signal

    job = Job(
        job_id="job-1",
        queue_name="mail",
        payload={"n": 1},
        user=ANN,
        queued_at=17.5,
        attempt=2,
        group_id="g",
        sequence_number=7,
        params={"size": "big"},
    )
    assert runs.start(queue(later if asynchronous else plain), job) == (
        {"n": 1},
        (ANN, "job-1", "mail", 17.5, 2, "g", 7, {"size": "big"}),
        job.signal,
    )


@dataclass
class Mail:
    to: str


@KINDS
def test_a_payload_becomes_what_its_handler_takes(runs: Runs, kind: int) -> None:
    handler = both(lambda job: job.to)[kind]
    assert runs.run(handler, {"to": "bob"}, validate=validator(Mail, "payload")) == "bob"


@KINDS
def test_a_payload_that_does_not_fit_never_reaches_the_handler(runs: Runs, kind: int) -> None:
    called: list[object] = []
    handler = both(called.append)[kind]
    with pytest.raises(InvalidPush) as caught:
        runs.run(handler, {"to": 1}, validate=validator(Mail, "payload"))
    assert (
        str(caught.value)
        == "mail does not take this payload: payload.to: expected `str`, got `int`"
    )
    assert called == []


# Where it runs


def test_a_plain_job_runs_in_this_thread_and_an_asynchronous_one_on_the_loop(runs: Runs) -> None:
    plain, asynchronous = both(lambda job: threading.current_thread().name)
    assert runs.run(plain) == threading.current_thread().name
    assert runs.run(asynchronous) == "queue-run-handlers"


def test_what_a_plain_job_gives_to_await_is_awaited_on_the_loop(runs: Runs) -> None:
    async def later(job: Any) -> Any:
        await asyncio.sleep(0)
        return threading.current_thread().name, context.current()

    name, call = runs.run(lambda job: later(job))
    assert name == "queue-run-handlers"
    assert call.user_id == "ann"


@KINDS
def test_a_job_runs_in_a_call_of_its_user(runs: Runs, kind: int) -> None:
    call = runs.run(both(lambda job: context.current())[kind])
    assert (call.user, call.user_id, call.connection) == (ANN, "ann", None)
    assert context.current() is None


@KINDS
def test_a_job_of_nobodys_can_name_users_and_nothing_else(
    runs: Runs, publisher: RecordingPublisher, kind: int
) -> None:
    def function(job: Any) -> None:
        socket.to("bob").send("hi")
        socket.send("to whom?")

    job = Job(job_id="job-1", queue_name="mail", payload=1)
    with pytest.raises(OutsideCall):
        runs.start(queue(both(function)[kind]), job)
    assert len(publisher.envelopes) == 1


# Failures


@KINDS
@pytest.mark.parametrize("failure", [LookupError("x"), TimeoutError("x")], ids=repr)
def test_what_a_handler_raises_is_the_callers(runs: Runs, kind: int, failure: Exception) -> None:
    def fail(job: object) -> None:
        raise failure

    with pytest.raises(type(failure)) as caught:
        runs.run(both(fail)[kind])
    assert caught.value.args == ("x",)
    assert context.current() is None


@KINDS
@pytest.mark.parametrize(
    "failure", [SystemExit(3), StopIteration(), asyncio.CancelledError()], ids=repr
)
def test_what_would_end_more_than_a_job_is_its_failure(
    runs: Runs, kind: int, failure: BaseException
) -> None:
    def fail(job: object) -> None:
        raise failure

    with pytest.raises(BaseException):  # noqa: B017, PT011
        runs.run(both(fail)[kind])
    # The loop goes on.
    assert runs.run(both(lambda job: "next")[1]) == "next"


# Time limits


def test_a_plain_job_past_its_timeout_is_interrupted_and_told(runs: Runs) -> None:
    signals: list[Signal] = []

    def handler(job: object, signal: Signal) -> None:
        signals.append(signal)
        threading.Event().wait(DEADLINE)

    with pytest.raises(HandlerTimeout, match=r"no answer within 0\.02 seconds"):
        runs.run(handler, timeout=SOON)
    assert signals[0].wait(DEADLINE)


def test_an_asynchronous_job_past_its_timeout_is_cancelled_and_told(runs: Runs) -> None:
    told: list[Any] = []

    async def handler(job: object, signal: Signal) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cancelled")
            told.append(signal)

    with pytest.raises(HandlerTimeout, match=r"no answer within 0\.02 seconds"):
        runs.run(handler, timeout=SOON)
    assert told[0] == "cancelled"
    assert told[1].is_set()


def test_what_a_plain_job_gives_to_await_has_the_time_limit_too(runs: Runs) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(HandlerTimeout, match=r"no answer within 0\.02 seconds"):
        runs.run(lambda job: forever(), timeout=SOON)


@KINDS
def test_on_job_started_is_within_the_time_limit(runs: Runs, kind: int) -> None:
    async def hang(job: Job) -> None:
        await asyncio.Event().wait()

    hooks = Hooks(started=hook(hang))
    with pytest.raises(HandlerTimeout):
        runs.run(both(lambda job: None)[kind], timeout=SOON, hooks=hooks)


# Middleware


@KINDS
@pytest.mark.parametrize("hooks_kind", [0, 1], ids=["plain hooks", "async hooks"])
def test_middleware_runs_before_and_after_the_handler_in_its_call(
    runs: Runs, kind: int, hooks_kind: int
) -> None:
    events: list[Any] = []

    def note(what: str) -> Callable[[Any], Any]:
        def function(job: Any) -> None:
            call = context.current()
            name = job.job_id if isinstance(job, Job) else job
            events.append((what, name, call.user_id if call is not None else None))

        return both(function)[hooks_kind if what != "handler" else kind]

    hooks = Hooks(started=hook(note("started")), finished=hook(note("finished")))
    runs.run(note("handler"), hooks=hooks)
    assert events == [
        ("started", "job-1", "ann"),
        ("handler", "payload", "ann"),
        ("finished", "job-1", "ann"),
    ]


@KINDS
def test_an_on_job_started_that_fails_keeps_the_handler_from_running(runs: Runs, kind: int) -> None:
    events: list[object] = []

    def refuse(job: Job) -> None:
        raise LookupError("not today")

    hooks = Hooks(started=hook(refuse), finished=hook(events.append))
    with pytest.raises(LookupError, match="not today"):
        runs.run(both(events.append)[kind], hooks=hooks)
    assert events == []


@KINDS
def test_on_job_finished_is_not_called_after_a_failure(runs: Runs, kind: int) -> None:
    events: list[object] = []

    def fail(job: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        runs.run(both(fail)[kind], hooks=Hooks(finished=hook(events.append)))
    assert events == []


@KINDS
@pytest.mark.parametrize("hooks_kind", [0, 1], ids=["plain hooks", "async hooks"])
def test_an_on_job_finished_that_fails_is_told_to_on_error_and_fails_nothing(
    runs: Runs, kind: int, hooks_kind: int
) -> None:
    told: list[Any] = []
    failure = LookupError("no matter")

    def fail(job: Job) -> None:
        raise failure

    hooks = Hooks(
        finished=hook(both(fail)[hooks_kind]),
        error=hook(lambda error, job: told.append((error, job.job_id))),
    )
    assert runs.run(both(lambda job: "done")[kind], hooks=hooks) == "done"
    assert told == [(failure, "job-1")]


JOB = Job(job_id="job-1", queue_name="mail", payload=1, user=ANN)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_on_error_is_told_of_a_failure_in_the_jobs_call(runs: Runs, asynchronous: bool) -> None:
    told: list[Any] = []

    def plain(error: BaseException, job: Job) -> None:
        call = context.current()
        told.append((error, job, call.user_id if call is not None else None))

    async def later(error: BaseException, job: Job) -> None:
        plain(error, job)

    failure = LookupError()
    handler = queue(print_nothing, hooks=Hooks(error=hook(later if asynchronous else plain)))
    tell_failure(handler, failure, JOB, runs.on_loop)
    assert told == [(failure, JOB, "ann")]


def print_nothing(job: object) -> None:
    pass


def test_an_on_error_that_fails_is_logged_with_its_file_and_the_first_error(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(error: BaseException, job: Job) -> None:
        raise ValueError("broken too")

    handler = queue(print_nothing, hooks=Hooks(error=hook(fail, "queues/_middleware.py")))
    tell_failure(handler, LookupError("first"), JOB, runs.on_loop)
    [record] = caplog.records
    assert "on_error of queues/_middleware.py failed" in record.message
    assert "first" in record.message


def test_without_on_error_nobody_is_told(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    tell_failure(queue(print_nothing), LookupError(), JOB, runs.on_loop)
    assert caplog.records == []


# What it sends


def sent_ids(publisher: RecordingPublisher) -> list[bytes]:
    return [each.id for each in publisher.envelopes if isinstance(each, ToUsers)]


@KINDS
def test_every_attempt_sends_under_the_same_ids(
    runs: Runs, publisher: RecordingPublisher, kind: int
) -> None:
    def function(job: Any) -> None:
        for _ in range(2):
            socket.send("hi")

    handler = queue(both(function)[kind])
    for attempt in (1, 2):
        runs.start(
            handler,
            Job(job_id="job-1", queue_name="mail", payload=1, user=ANN, attempt=attempt),
        )
    first, second, *again = sent_ids(publisher)
    assert first != second
    assert again == [first, second]


def test_a_job_that_was_taken_back_from_the_dead_letters_sends_under_ids_of_its_own(
    runs: Runs, publisher: RecordingPublisher
) -> None:
    handler = queue(lambda job: socket.send("hi"))
    for revived in (0, 1):
        job = Job(job_id="job-1", queue_name="mail", payload=1, user=ANN, revived=revived)
        runs.start(handler, job)
    first, second = sent_ids(publisher)
    assert first != second


def test_what_on_error_sends_is_no_repeat_of_what_the_handler_sent(
    runs: Runs, publisher: RecordingPublisher
) -> None:
    runs.run(lambda job: socket.send("it failed"))
    hooks = Hooks(error=hook(lambda error, job: socket.send("it failed")))
    tell_failure(queue(print_nothing, hooks=hooks), LookupError(), JOB, runs.on_loop)
    first, second = sent_ids(publisher)
    assert first != second


@pytest.mark.parametrize("kind", ["plain", "async", "awaited", "own loop"])
@pytest.mark.parametrize("fails", [True, False], ids=["fails", "ends"])
def test_a_job_ends_when_its_messages_are_on_the_channel(
    runs: Runs, publisher: RecordingPublisher, fails: bool, kind: str
) -> None:
    async def forgetful(job: object) -> None:
        socket.to("bob").send("forgotten")
        if fails:
            raise LookupError

    handlers: dict[str, Callable[..., Any]] = {
        "plain": lambda job: asyncio.run(forgetful(job)),
        "async": forgetful,
        "awaited": lambda job: forgetful(job),
        "own loop": lambda job: runs.on_loop(forgetful(job)),
    }
    publisher.confirms = False
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            runs.run(handlers[kind])
        except BaseException as error:
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: publisher.published, what="the message")
    thread.join(5 * SOON)
    assert ended == []
    publisher.confirm()
    thread.join(DEADLINE)
    assert [isinstance(each, LookupError) for each in ended] == [fails]


def test_the_call_of_a_job_is_its_users() -> None:
    call = call_of(JOB)
    assert (call.user, call.user_id, call.connection) == (ANN, "ann", None)
    assert call_of(Job(job_id="j", queue_name="mail", payload=1)).user_id is None

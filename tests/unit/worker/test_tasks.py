"""The Celery side of the worker. The tasks run here as Celery runs them, without a broker."""

import contextlib
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from queue_run import Signal, runtime, socket
from queue_run.celery_app import create_celery
from queue_run.envelopes import Outcome, ToUsers, encode_batch
from queue_run.messages import Form, Message
from queue_run.runtime import Runtime
from queue_run.settings import Settings
from tests.processes import environment
from tests.unit.recorders import RecordingPublisher
from tests.unit.worker.building import inbound, queue, route, turn
from tests.waiting import DEADLINE, eventually
from worker.routes import JobHandler, Routes
from worker.tasks import Process, register


class Worker:
    """A Celery application with the tasks of some routes and queues."""

    def __init__(self, routes: Routes, publisher: RecordingPublisher) -> None:
        self.publisher = publisher
        self.app: Celery = create_celery(Settings(broker_url="memory://", namespace="test"))
        self.process = Process(routes)
        register(self.app, routes, self.process)

    def run(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Run a task at once; its state and what it raised."""
        ended = self.app.tasks[name].apply(args=arguments, **options)
        return ended.state, ended.result


NewWorker = Callable[..., Worker]


@pytest.fixture
def worker(process: Runtime, publisher: RecordingPublisher) -> Iterator[NewWorker]:
    made: list[Worker] = []

    def make(*queues: JobHandler, **routes: Any) -> Worker:
        offered = Routes(queues={each.name: each for each in queues}, **routes)
        made.append(Worker(offered, publisher))
        return made[-1]

    yield make
    for each in made:
        each.process.drain()


# Requests


def test_a_batch_of_requests_is_answered(worker: NewWorker, publisher: RecordingPublisher) -> None:
    here = worker(sockets=(route(lambda data: data),))
    state, _ = here.run("queue_run.requests", encode_batch([turn(inbound("hi"))]))
    assert state == "SUCCESS"
    eventually(lambda: publisher.envelopes, what="the outcome")
    [outcome] = publisher.envelopes
    assert isinstance(outcome, Outcome)
    assert outcome.reply == Message(Form.TEXT, b"hi")


@pytest.mark.parametrize("batch", ["", "2[]", "1[{}]", "not a batch"])
def test_a_batch_that_cannot_be_read_is_logged(
    worker: NewWorker, batch: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert worker().run("queue_run.requests", batch)[0] == "SUCCESS"
    assert "a batch of requests cannot be read" in caplog.text


def test_tasks_belong_to_their_application_alone(worker: NewWorker) -> None:
    worker(queue(lambda job: None))
    other = create_celery(Settings(broker_url="memory://"))
    assert not {"queue_run.requests", "queues.mail"} & set(other.tasks)


# Jobs


def test_every_queue_is_a_task(worker: NewWorker) -> None:
    here = worker(queue(lambda job: None, "mail"), queue(lambda job: None, "a.b"))
    assert {"queues.mail", "queues.a.b"} <= set(here.app.tasks)


def test_jobs_are_acknowledged_at_their_end(worker: NewWorker) -> None:
    task = worker(queue(lambda job: None)).app.tasks["queues.mail"]
    assert task.acks_late
    assert task.reject_on_worker_lost
    assert task.ignore_result


def test_a_plain_job_has_a_soft_time_limit_and_an_asynchronous_one_its_own(
    worker: NewWorker,
) -> None:
    async def asynchronous(job: object) -> None:
        pass

    here = worker(
        queue(lambda job: None, "plain", timeout=2.5), queue(asynchronous, "asynchronous")
    )
    assert here.app.tasks["queues.plain"].soft_time_limit == 3
    assert here.app.tasks["queues.asynchronous"].soft_time_limit is None


def test_a_job_gets_its_payload_and_its_facts(worker: NewWorker) -> None:
    got: list[Any] = []

    def handler(
        job: Any, user: Any, job_id: Any, queue_name: Any, queued_at: Any, attempt: Any
    ) -> None:
        got.append((job, user, job_id, queue_name, queued_at, attempt))

    here = worker(queue(handler))
    facts = {"user": {"id": "ann"}, "queued_at": 17.5}
    state, _ = here.run(
        "queues.mail", {"n": 1}, task_id="job-1", headers={"queue_run": facts}, retries=2
    )
    assert state == "SUCCESS"
    assert got == [({"n": 1}, {"id": "ann"}, "job-1", "mail", 17.5, 3)]


@pytest.mark.parametrize("headers", [None, {}, {"queue_run": {"user": 1}}, {"queue_run": 7}])
def test_a_job_that_came_another_way_runs_without_a_user(
    worker: NewWorker, headers: dict[str, Any] | None
) -> None:
    got: list[Any] = []
    here = worker(queue(lambda job, user, queued_at: got.append((job, user, queued_at))))
    assert here.run("queues.mail", "hi", headers=headers)[0] == "SUCCESS"
    assert got == [("hi", None, None)]


def test_an_asynchronous_job_runs_on_the_processs_loop(worker: NewWorker) -> None:
    got: list[Any] = []

    async def handler(job: Any, *, user: Any) -> None:
        got.append((job, user, threading.current_thread().name))

    here = worker(queue(handler))
    facts = {"user": {"id": "ann"}, "queued_at": 17.5}
    assert here.run("queues.mail", 1, headers={"queue_run": facts})[0] == "SUCCESS"
    assert got == [(1, {"id": "ann"}, "queue-run-handlers")]


def test_a_job_sends_to_its_user(worker: NewWorker, publisher: RecordingPublisher) -> None:
    def plain(job: Any) -> None:
        socket.send(job)

    async def asynchronous(job: Any) -> None:
        await socket.send(job)

    here = worker(queue(plain, "plain"), queue(asynchronous, "asynchronous"))
    facts = {"user": {"id": "ann"}, "queued_at": 17.5}
    for name in ("plain", "asynchronous"):
        here.run(f"queues.{name}", name, headers={"queue_run": facts})
    assert [
        (each.users, each.message.data) for each in publisher.envelopes if isinstance(each, ToUsers)
    ] == [(["ann"], b"plain"), (["ann"], b"asynchronous")]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_job_that_fails_has_failed(worker: NewWorker, asynchronous: bool) -> None:
    async def later(job: object) -> None:
        raise LookupError("x")

    def now(job: object) -> None:
        raise LookupError("x")

    state, error = worker(queue(later if asynchronous else now)).run("queues.mail", 1)
    assert state == "FAILURE"
    assert isinstance(error, LookupError)


def test_an_asynchronous_job_in_a_plain_wrapper_runs(
    worker: NewWorker, recwarn: pytest.WarningsRecorder
) -> None:
    ran: list[Any] = []

    async def handler(job: Any) -> None:
        ran.append(job)

    here = worker(queue(lambda job: handler(job)))
    here.run("queues.mail", 1)
    assert ran == [1]


def test_a_plain_job_past_its_timeout_is_told_by_its_signal(worker: NewWorker) -> None:
    told: list[bool] = []

    def handler(job: object, signal: Signal) -> None:
        told.append(signal.wait(DEADLINE))

    worker(queue(handler, timeout=0.02)).run("queues.mail", 1)
    assert told == [True]


def test_a_plain_job_in_time_leaves_no_timer_behind(worker: NewWorker) -> None:
    worker(queue(lambda job: None)).run("queues.mail", 1)

    def timers() -> bool:
        return any(isinstance(each, threading.Timer) for each in threading.enumerate())

    eventually(lambda: not timers(), what="the end of its timer")


def test_the_end_of_a_job_is_logged(worker: NewWorker, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="worker.tasks"):
        worker(queue(lambda job: None)).run("queues.mail", 1, task_id="job-1")
    assert any(each.startswith("mail[job-1] finished in ") for each in caplog.messages)


# The process


def test_a_process_has_one_intake(worker: NewWorker) -> None:
    process = worker().process
    assert process.intake is process.intake


def test_a_forked_child_makes_its_own_intake() -> None:
    code = (
        "import os\n"
        "from queue_run import Settings, configure\n"
        "from worker.routes import Routes\n"
        "from worker.tasks import Process\n"
        "configure(Settings(redis_url='redis://127.0.0.1:1/0'))\n"
        "process = Process(Routes())\n"
        "parents = process.intake\n"
        "reader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    mine = process.intake\n"
        "    facts = (mine is parents, mine is process.intake)\n"
        "    os.write(writer, repr(facts).encode())\n"
        "    os._exit(0)\n"
        "print(os.read(reader, 100).decode(), process.intake is parents)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        check=True,
        text=True,
        timeout=DEADLINE,
    )
    assert ran.stdout.split("\n")[0] == "(False, True) True"


class MeetingRoutes(Routes):
    """Routes where two that make a router at the same time wait for each other."""

    meeting = threading.Barrier(2)

    def router(self) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            self.meeting.wait(0.3)
        return super().router()


def test_threads_that_come_first_together_get_the_same_intake(process: Runtime) -> None:
    here = Process(MeetingRoutes())
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(here.intake)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    here.drain()
    assert got[0] is got[1]


def test_draining_answers_what_was_accepted_and_closes_the_channel(
    worker: NewWorker, publisher: RecordingPublisher
) -> None:
    here = worker(sockets=(route(lambda data: data),))
    here.run("queue_run.requests", encode_batch([turn(inbound("hi"))]))
    here.process.drain()
    assert [type(each) for each in publisher.envelopes] == [Outcome]
    assert publisher.closed == 1


def test_draining_a_process_that_did_nothing_is_harmless(process: Runtime) -> None:
    here = Process(Routes())
    here.drain()
    here.drain()


def test_after_draining_a_process_may_begin_again(
    worker: NewWorker, publisher: RecordingPublisher
) -> None:
    here = worker(sockets=(route(lambda data: data),))
    first = here.process.intake
    here.process.drain()
    runtime.current().__dict__["publisher"] = publisher
    assert here.process.intake is not first

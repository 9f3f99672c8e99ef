"""The Celery side of the worker. The tasks run here as Celery runs them, without a broker."""

import contextlib
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from celery import Celery
from celery.exceptions import Reject
from kombu import Message as CeleryMessage

from queue_run import Signal
from queue_run.broker.celery_app import create_celery
from queue_run.contracts.envelopes import Outcome, encode_batch
from queue_run.contracts.messages import Form, Message
from queue_run.errors import JobStoreUnavailable
from queue_run.jobs.stored import HEADER, JobFacts, StoredJob, decode_job
from queue_run.process import runtime
from queue_run.process.runtime import Runtime
from queue_run.settings import Settings
from tests.processes import RedisServer, environment
from tests.unit.recorders import RecordingPublisher
from tests.unit.worker.building import inbound, queue, route, turn
from tests.waiting import DEADLINE, eventually
from worker.application.routes import JobHandler, Routes
from worker.celery_side import tasks
from worker.celery_side.tasks import Process, keep_unknown, register


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

    def run_job(self, payload: Any, facts: Any, **options: Any) -> Any:
        """Run a job of the queue `mail`, with facts as they travel."""
        header = facts if isinstance(facts, str) else msgspec.json.encode(facts).decode()
        headers = None if facts is None else {HEADER: header}
        return self.run("queues.mail", payload, headers=headers, **options)


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
        each.process.wind_down()


@pytest.fixture
def job_worker(
    worker: NewWorker, process: Runtime, redis_server: RedisServer, namespace: str
) -> NewWorker:
    """With a real Redis, which jobs need."""
    here = runtime.configure(Settings(redis_url=redis_server.url, namespace=namespace))
    here.__dict__["publisher"] = process.publisher
    return worker


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
    assert {"queues.mail", "queues.a.b", "queue_run.drain"} <= set(here.app.tasks)


@pytest.mark.parametrize("name", ["queues.mail", "queue_run.drain"])
def test_jobs_are_acknowledged_at_their_end_and_handed_out_again_when_lost(
    worker: NewWorker, name: str
) -> None:
    task = worker(queue(lambda job: None)).app.tasks[name]
    assert task.acks_late
    assert task.reject_on_worker_lost
    assert not task.acks_on_failure_or_timeout
    assert task.ignore_result
    assert task.Request == "worker.celery_side.lost_workers:JobRequest"


def test_a_process_is_killed_some_time_after_its_job_should_have_ended(worker: NewWorker) -> None:
    here = worker(
        queue(lambda job: None, "mail", timeout=2.5), queue(lambda job: None, "slow", timeout=60)
    )
    assert here.app.tasks["queues.mail"].time_limit == 13
    # Groups also run jobs of queues that were FIFO queues before.
    assert here.app.tasks["queue_run.drain"].time_limit == 75


def test_a_job_gets_its_payload_and_its_facts(job_worker: NewWorker) -> None:
    got: list[Any] = []

    def handler(
        job: Any, user: Any, job_id: Any, queue_name: Any, queued_at: Any, params: Any
    ) -> None:
        got.append((job, user, job_id, queue_name, queued_at, params))

    here = job_worker(queue(handler))
    facts = {"user": {"id": "ann"}, "queued_at": 17.5, "params": {"a": "b"}}
    assert here.run_job({"n": 1}, facts, task_id="job-1") == ("SUCCESS", None)
    assert got == [({"n": 1}, {"id": "ann"}, "job-1", "mail", 17.5, {"a": "b"})]


@pytest.mark.parametrize("facts", [None, {"user": 1}, {"user": {"no": "id"}}, 7, "", "x"])
def test_a_job_that_came_another_way_runs_without_a_user(
    job_worker: NewWorker, facts: object
) -> None:
    got: list[Any] = []
    here = job_worker(queue(lambda job, user, queued_at: got.append((job, user, queued_at))))
    assert here.run_job("hi", facts)[0] == "SUCCESS"
    assert got == [("hi", None, None)]


def test_a_job_without_a_payload_gets_none(job_worker: NewWorker) -> None:
    got: list[Any] = []
    assert job_worker(queue(got.append)).run("queues.mail")[0] == "SUCCESS"
    assert got == [None]


def test_a_job_that_fails_is_no_failure_of_celerys(job_worker: NewWorker) -> None:
    def fail(job: object) -> None:
        raise LookupError("x")

    assert job_worker(queue(fail)).run_job("hi", None) == ("SUCCESS", None)


def test_the_jobs_of_a_group_run_in_a_drain(job_worker: NewWorker) -> None:
    got: list[Any] = []
    here = job_worker(queue(got.append, fifo=True))
    for number in range(3):
        job = StoredJob(id=f"job-{number}", queue="mail", payload=number, facts=JobFacts(group="g"))
        runtime.current().groups.push(job, dedupe=job.id)
    assert here.run("queue_run.drain", "mail", "g")[0] == "SUCCESS"
    assert got == [0, 1, 2]


def test_a_drain_of_a_queue_without_a_file_leaves_its_jobs(
    worker: NewWorker, caplog: pytest.LogCaptureFixture
) -> None:
    assert worker().run("queue_run.drain", "gone", "g")[0] == "SUCCESS"
    assert "jobs wait in the queue gone, which has no file here" in caplog.text


class Unpicklable(Exception):
    """As many clients' errors are: its constructor takes other arguments than it keeps."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(one)


@pytest.mark.parametrize(
    "error", [JobStoreUnavailable("away"), Unpicklable("a", threading.Lock())], ids=repr
)
@pytest.mark.parametrize("task", [("queues.mail", "hi"), ("queue_run.drain", "mail", "g")])
def test_what_cannot_be_done_goes_back_to_the_broker_after_a_pause(
    worker: NewWorker,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    task: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(tasks, "HANDED_BACK_PAUSE", 0.2)
    here = worker(queue(lambda job: None))
    monkeypatch.setattr(here.process.jobs, "run", fail)
    monkeypatch.setattr(here.process.jobs, "drain", fail)
    began = time.monotonic()
    state, rejected = here.run(*task)
    assert time.monotonic() - began >= 0.2
    assert (state, type(rejected)) == ("REJECTED", Reject)
    # It must reach the parent of a prefork pool.
    assert pickle.loads(pickle.dumps(rejected)).requeue
    assert "goes back to the broker" in caplog.text


def test_a_job_whose_queue_has_no_file_here_comes_again(
    job_worker: NewWorker, caplog: pytest.LogCaptureFixture
) -> None:
    job_worker()
    facts = JobFacts(user={"id": "ann"}, queued_at=17.5)
    message = CeleryMessage(
        body='[[{"n": 1}], {}, {}]',
        headers={"id": "job-1", HEADER: msgspec.json.encode(facts).decode()},
        content_type="application/json",
        content_encoding="utf-8",
    )
    keep_unknown(message, "queues.new", "job-1")
    keep_unknown(message, "somebody.elses", "job-2")
    store = runtime.current().store
    assert store.client.zrange(store.keys.delayed, 0, -1) == [b"job-1"]
    data = store.client.hget(store.keys.delayed_jobs, "job-1")
    assert isinstance(data, bytes)
    kept = StoredJob(id="job-1", queue="new", payload={"n": 1}, facts=facts)
    assert decode_job(data) == kept


def test_the_jobs_of_a_process_are_told_when_it_is_about_to_end(job_worker: NewWorker) -> None:
    told: list[bool] = []
    here = job_worker()

    def handler(job: object, signal: Signal) -> None:
        here.process.stop_soon()
        told.append(signal.wait(DEADLINE))

    mail = queue(handler)
    here.process.jobs.run(mail, StoredJob(id="job-1", queue="mail", payload=1))
    assert told == [True]


# The process


def test_a_process_has_one_intake(worker: NewWorker) -> None:
    process = worker().process
    assert process.intake is process.intake


def test_a_forked_child_makes_its_own_intake() -> None:
    code = (
        "import os\n"
        "from queue_run import Settings, configure\n"
        "from worker.application.routes import Routes\n"
        "from worker.celery_side.tasks import Process\n"
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
    here.wind_down()
    assert got[0] is got[1]


def test_draining_answers_what_was_accepted_and_closes_the_channel(
    worker: NewWorker, publisher: RecordingPublisher
) -> None:
    here = worker(sockets=(route(lambda data: data),))
    here.run("queue_run.requests", encode_batch([turn(inbound("hi"))]))
    here.process.wind_down()
    assert [type(each) for each in publisher.envelopes] == [Outcome]
    assert publisher.closed == 1


def test_draining_a_process_that_did_nothing_is_harmless(process: Runtime) -> None:
    here = Process(Routes())
    here.wind_down()
    here.wind_down()


def test_after_draining_a_process_may_begin_again(
    worker: NewWorker, publisher: RecordingPublisher
) -> None:
    here = worker(sockets=(route(lambda data: data),))
    first = here.process.intake
    here.process.wind_down()
    runtime.current().__dict__["publisher"] = publisher
    assert here.process.intake is not first

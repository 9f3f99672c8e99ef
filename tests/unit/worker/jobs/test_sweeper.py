"""Looking after jobs whose time has come, with a real Redis as store and broker."""

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from queue_run.contracts.manifest import QueueFacts
from queue_run.errors import DispatchUnavailable
from queue_run.jobs.delays import Delays
from queue_run.jobs.groups import Group, Groups
from queue_run.jobs.pushing import JobPusher
from queue_run.jobs.stored import JobFacts, StoredJob
from queue_run.process import runtime
from queue_run.settings import Settings
from queue_run.storage.scripts import Store
from tests.processes import RedisServer
from tests.unit.worker.building import queue
from tests.waiting import DEADLINE, eventually
from worker.application.routes import Routes
from worker.jobs import sweeper as sweeper_module
from worker.jobs.sweeper import Sweeper

JOB = StoredJob(id="job-1", queue="mail", payload={"n": 1}, facts=JobFacts(queued_at=17.5))


class RecordingPusher(JobPusher):
    """A pusher whose broker is a list; it can be away."""

    def __init__(self) -> None:
        self.sent: list[tuple[StoredJob, QueueFacts | None]] = []
        self.drains: list[tuple[Group, QueueFacts | None]] = []
        self.away: Exception | None = None
        self.asked = threading.Semaphore(0)

    def send(
        self, job: StoredJob, facts: QueueFacts | None, *, also_when_full: bool = False
    ) -> None:
        self.asked.release()
        if job.payload == "bad":
            raise TypeError("no broker takes it")
        if self.away is not None:
            raise self.away
        self.sent.append((job, facts))

    def send_drain(self, group: Group, facts: QueueFacts | None) -> None:
        if self.away is not None:
            raise self.away
        self.drains.append((group, facts))


class Here:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings, patience=DEADLINE)
        self.delays = Delays(self.store)
        self.groups = Groups(self.store, lease=settings.lease)
        self.pusher = RecordingPusher()
        self.sweepers: list[Sweeper] = []

    def sweep(self) -> Sweeper:
        """Start a sweeper, of a worker that has the queue `mail`."""
        mail = queue(lambda job: None, celery_queue="slow")
        self.sweepers.append(Sweeper(self.settings, Routes(queues={"mail": mail}), self.pusher))
        self.sweepers[-1].start()
        return self.sweepers[-1]

    def waiting(self) -> int:
        return int(self.store.client.zcard(self.store.keys.delayed))

    def lane_is_due(self, group: Group) -> None:
        """The drain that was sent for a group has not come."""
        self.store.client.zadd(self.store.keys.groups, {group.name: 0})

    def close(self) -> None:
        for each in self.sweepers:
            each.stop()
        self.store.close()


@pytest.fixture
def here(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Here]:
    monkeypatch.setattr(sweeper_module, "INTERVAL", 0.01)
    here = Here(Settings(redis_url=redis_server.url, namespace=namespace))
    yield here
    here.close()


def test_a_job_whose_time_has_come_goes_to_the_broker_and_waits_no_more(here: Here) -> None:
    here.delays.add(JOB, 0.01)
    here.sweep()
    eventually(lambda: here.waiting() == 0, what="the job to be sent")
    assert here.pusher.sent == [(JOB, QueueFacts(celery_queue="slow"))]


def test_a_job_waits_for_its_time(here: Here) -> None:
    here.delays.add(JOB, 600)
    here.delays.add(msgspec.structs.replace(JOB, id="job-2"), 0.01)
    here.sweep()
    eventually(lambda: here.pusher.sent, what="the other job")
    eventually(lambda: here.waiting() == 1, what="the other job to be done")
    assert [job.id for job, _ in here.pusher.sent] == ["job-2"]


def test_many_jobs_that_are_due_are_all_sent_once_by_several_sweepers(here: Here) -> None:
    ids = [f"job-{number}" for number in range(350)]
    for job_id in ids:
        here.delays.add(msgspec.structs.replace(JOB, id=job_id), 0.001)
    for _ in range(3):
        here.sweep()
    eventually(lambda: here.waiting() == 0, what="all of them")
    assert sorted(job.id for job, _ in here.pusher.sent) == sorted(ids)


def test_a_job_of_a_queue_that_is_not_known_here_goes_to_the_usual_workers(here: Here) -> None:
    here.delays.add(msgspec.structs.replace(JOB, queue="gone"), 0.001)
    here.sweep()
    eventually(lambda: here.pusher.sent, what="the job")
    assert here.pusher.sent[0][1] is None


def test_a_group_that_nobody_drains_gets_a_drain_of_its_own(here: Here) -> None:
    job = msgspec.structs.replace(JOB, facts=JobFacts(group="a:b"))
    assert here.groups.push(job, dedupe="x").needs_drain
    group = Group("mail", "a:b")
    here.lane_is_due(group)
    here.sweep()
    eventually(lambda: here.pusher.drains, what="the drain")
    assert here.pusher.drains == [(group, QueueFacts(celery_queue="slow"))]


@pytest.mark.parametrize("error", [DispatchUnavailable("the broker is away"), LookupError("bug")])
def test_while_the_broker_is_away_jobs_wait(
    here: Here, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    here.pusher.away = error
    here.delays.add(JOB, 0.001)
    here.sweep()
    assert here.pusher.asked.acquire(timeout=DEADLINE)
    eventually(lambda: caplog.records, what="what went wrong")
    assert here.waiting() == 1
    here.pusher.away = None
    # The claim of the first look would last for half a minute.
    here.store.client.zadd(here.store.keys.delayed, {JOB.id: 0})
    eventually(lambda: here.waiting() == 0, what="the job to be sent")


def test_a_job_that_cannot_be_sent_does_not_keep_others_waiting(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        payload = "bad" if number == 0 else "good"
        here.delays.add(msgspec.structs.replace(JOB, id=f"job-{number}", payload=payload), 0.001)
    group = msgspec.structs.replace(JOB, facts=JobFacts(group="g"))
    here.groups.push(group, dedupe="x")
    here.lane_is_due(Group("mail", "g"))
    for number in range(3):
        here.store.client.zadd(here.store.keys.delayed, {f"job-{number}": number})
    here.sweep()
    eventually(lambda: here.pusher.drains, what="the drain")
    assert [job.id for job, _ in here.pusher.sent] == ["job-1", "job-2"]
    assert "the delayed job job-0" in caplog.text
    assert here.waiting() == 1


def test_a_sweeper_outlives_its_redis(
    own_redis: RedisServer,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sweeper_module, "INTERVAL", 0.01)
    here = Here(Settings(redis_url=own_redis.url, namespace=namespace, publish_timeout=0.2))
    here.delays.add(JOB, 600)
    here.sweep()
    own_redis.kill()
    eventually(lambda: "jobs that are due wait" in caplog.text, what="the warning")
    own_redis.start()
    here.delays.add(JOB, 0.001)
    eventually(lambda: here.pusher.sent, what="the job")
    here.close()


def test_a_sweeper_that_is_stopped_has_ended(here: Here) -> None:
    sweeper = here.sweep()
    assert sweeper._thread.is_alive()
    here.sweepers.remove(sweeper)
    sweeper.stop()
    assert not sweeper._thread.is_alive()


def test_what_a_sweeper_sends_is_what_was_pushed(here: Here, no_runtime: None) -> None:
    """With a broker: the facts of a job survive its wait."""
    real = runtime.configure(here.settings)
    facts = JobFacts(user={"id": "ann"}, queued_at=17.5, params={"a": "b"}, revived=2)
    job = msgspec.structs.replace(JOB, payload=b"\x00", facts=facts)
    here.delays.add(job, 0.001)
    routes = Routes(queues={"mail": queue(lambda job: None)})
    here.sweepers.append(Sweeper(here.settings, routes, real.job_pusher))
    here.sweepers[-1].start()
    with real.celery.connection_for_read() as connection:
        waiting = connection.SimpleQueue(real.keys.jobs_queue)
        message: Any = waiting.get(timeout=DEADLINE)
        message.ack()
        waiting.close()
    assert message.headers["id"] == "job-1"
    assert message.headers["task"] == "queues.mail"
    assert message.payload[0] == [b"\x00"]
    assert msgspec.json.decode(message.headers["queue_run"], type=JobFacts) == facts
    real.close()

"""Handing jobs to the broker."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from queue_run.broker.celery_app import create_celery
from queue_run.contracts.keys import DRAIN_TASK
from queue_run.contracts.manifest import QueueFacts
from queue_run.errors import DispatchUnavailable, InvalidPush, JobStoreUnavailable
from queue_run.jobs.attempt_records import Attempts
from queue_run.jobs.groups import DRAIN_EXPIRY, Group, Groups, Next
from queue_run.jobs.pushing import JobPusher, check_group
from queue_run.jobs.stored import JobFacts, StoredJob
from queue_run.settings import Settings
from queue_run.storage.scripts import Store

FIFO = QueueFacts(fifo=True)
PLAIN = QueueFacts()


def a_job(payload: Any = None, *, id: str = "a", **facts: Any) -> StoredJob:
    return StoredJob(id=id, queue="mail", payload=payload, facts=JobFacts(**facts))


class Process:
    """What a process pushes with, and the broker's end of it."""

    def __init__(self, redis_url: str, namespace: str, broker_url: str = "") -> None:
        # Short where somebody is away, long where a busy machine must not look like that.
        timeout = 0.5 if broker_url or redis_url.endswith(":1/0") else 20.0
        self.settings = Settings(
            redis_url=redis_url,
            namespace=namespace,
            broker_url=broker_url,
            publish_timeout=timeout,
        )
        self.celery: Celery = create_celery(self.settings)
        self.store = Store(self.settings, patience=timeout)
        self.groups = Groups(self.store, lease=60)
        self.attempts = Attempts(self.store, lease=60, visibility=60)
        self.pusher = JobPusher(lambda: self.celery, self.groups, self.attempts, patience=timeout)

    def taken(self, queue: str = "jobs") -> list[tuple[str, Any, Any]]:
        """Name, arguments and id of the tasks that were sent, taken from the broker."""
        found = []
        with self.celery.connection_for_read() as connection:
            bound = self.celery.amqp.queues[f"{self.settings.namespace}.{queue}"]
            while (message := bound(connection.default_channel).get(no_ack=True)) is not None:
                found.append((message.headers["task"], message.payload[0], message.headers["id"]))
        return found


@pytest.fixture
def process(fake_redis_url: str, namespace: str) -> Iterator[Process]:
    process = Process(fake_redis_url, namespace)
    yield process
    process.store.close()


def test_a_plain_job_is_the_task_of_its_queue(process: Process) -> None:
    assert process.pusher.push(a_job({"n": 1}), PLAIN) == "a"
    assert process.taken() == [("queues.mail", [{"n": 1}], "a")]


def test_the_jobs_of_a_group_wait_in_its_group_for_one_drain(process: Process) -> None:
    for number in range(3):
        job = a_job(number, id=str(number), group="ann")
        assert process.pusher.push(job, FIFO) == str(number)
    [(task, arguments, _)] = process.taken()
    assert (task, arguments) == (DRAIN_TASK, ["mail", "ann"])
    group = Group("mail", "ann")
    seen = []
    found = process.groups.drain(group, "drain", most=1).advance()
    while found.job is not None:
        seen.append(found.job.payload)
        found = process.groups.drain(group, "drain", most=1).advance(done=found.job.id)
    assert (seen, found) == ([0, 1, 2], Next("empty"))


def test_a_group_of_a_queue_that_nobody_knows_is_taken(process: Process) -> None:
    process.pusher.push(a_job(group="ann"), None)
    assert [task for task, _, _ in process.taken()] == [DRAIN_TASK]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1}),
        ([1, "a"], [1, "a"]),
        ("text", "text"),
        (b"\xff", b"\xff"),
        (None, None),
    ],
    ids=repr,
)
def test_a_payload_that_is_the_same_is_pushed_once(
    process: Process, first: object, second: object
) -> None:
    process.pusher.push(a_job(first, id="first", group="g"), FIFO)
    assert process.pusher.push(a_job(second, id="second", group="g"), FIFO) == "first"


def test_payloads_that_only_look_the_same_are_all_pushed(process: Process) -> None:
    payloads = ["1", 1, b"1", ["1"], [1], {"a": 1}, {"a": "1"}, '{"a":1}', None, "null", 2**70]
    for number, payload in enumerate(payloads):
        job = a_job(payload, id=str(number), group="g")
        assert process.pusher.push(job, FIFO) == str(number)


def test_a_dedupe_id_stands_for_the_payload(process: Process) -> None:
    process.pusher.push(a_job(1, id="first", group="g"), FIFO, "same")
    assert process.pusher.push(a_job(2, id="second", group="g"), FIFO, "same") == "first"
    assert process.pusher.push(a_job(1, id="third", group="g"), FIFO, "other") == "third"
    assert process.pusher.push(a_job(1, id="fourth", group="g"), FIFO) == "fourth"


def test_a_queue_with_a_celery_queue_of_its_own_uses_it_for_jobs_and_drains(
    process: Process,
) -> None:
    process.celery.conf.task_queues.append(
        process.celery.amqp.Queues([], create_missing=True)[f"{process.settings.namespace}.slow"]
    )
    process.pusher.push(a_job(), QueueFacts(celery_queue="slow"))
    process.pusher.push(a_job(group="g"), QueueFacts(fifo=True, celery_queue="slow"))
    assert process.taken() == []
    assert [task for task, _, _ in process.taken("slow")] == ["queues.mail", DRAIN_TASK]


# Failures


def test_without_a_broker_a_plain_push_fails(fake_redis_url: str, namespace: str) -> None:
    process = Process(fake_redis_url, namespace, broker_url="redis://127.0.0.1:1/0")
    with pytest.raises(DispatchUnavailable, match="the broker took no job"):
        process.pusher.push(a_job(), PLAIN)
    process.store.close()


def test_without_a_broker_a_job_of_a_group_is_safe_in_its_group(
    fake_redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(fake_redis_url, namespace, broker_url="redis://127.0.0.1:1/0")
    with caplog.at_level(logging.WARNING):
        assert process.pusher.push(a_job(7, group="g"), FIFO) == "a"
    assert "a drain is sent later: the broker took no job" in caplog.text
    # Somebody looks after the group, and finds the job there.
    assert process.store.client.zrange(process.store.keys.groups, 0, -1) == [b"mail:g"]
    assert process.groups.drain(Group("mail", "g"), "drain", most=1).advance().job == a_job(
        7, group="g"
    )
    assert DRAIN_EXPIRY < 5 * 60
    process.store.close()


def test_without_redis_a_job_of_a_group_is_refused(namespace: str) -> None:
    process = Process("redis://127.0.0.1:1/0", namespace, broker_url="memory://")
    with pytest.raises(JobStoreUnavailable):
        process.pusher.push(a_job(group="g"), FIFO)
    assert process.taken() == []
    process.store.close()


@pytest.mark.parametrize(
    ("group", "facts", "dedupe", "text"),
    [
        (None, FIFO, None, "mail is a FIFO queue: say which group keeps its order"),
        (None, FIFO, "a", "mail is a FIFO queue: say which group keeps its order"),
        (None, PLAIN, "a", "mail: dedupe is for FIFO queues only, with a group"),
        (None, None, "a", "mail: dedupe is for FIFO queues only, with a group"),
        ("g", PLAIN, None, "mail is no FIFO queue, and has no groups"),
    ],
)
def test_a_push_that_does_not_fit_its_queue_says_what_to_do(
    process: Process, group: str | None, facts: QueueFacts | None, dedupe: str | None, text: str
) -> None:
    with pytest.raises(InvalidPush, match=text):
        process.pusher.push(a_job(group=group), facts, dedupe)
    assert process.taken() == []


@pytest.mark.parametrize(
    ("group", "facts", "dedupe"),
    [
        (None, PLAIN, None),
        (None, None, None),
        ("g", FIFO, None),
        ("g", FIFO, "a"),
        ("g", None, "a"),
    ],
)
def test_a_push_that_fits_its_queue_passes(
    group: str | None, facts: QueueFacts | None, dedupe: str | None
) -> None:
    check_group(a_job(group=group), facts, dedupe)

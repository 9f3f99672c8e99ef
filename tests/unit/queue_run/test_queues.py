"""`queues.get(name).push(payload)`: what reaches Celery."""

import asyncio
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from queue_run import DispatchUnavailable, NotEncodable, UnknownQueue, context, queues, runtime
from queue_run.context import Call
from queue_run.ids import UserId
from queue_run.known_queues import KnownQueues
from queue_run.runtime import Runtime
from queue_run.settings import Settings


@dataclass
class Mail:
    to: str
    at: datetime


class RecordingCelery:
    """Keeps the tasks that are sent through it."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.threads: set[str] = set()
        self.failure: Exception | None = None

    def send_task(self, name: str, args: list[Any], **options: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.threads.add(threading.current_thread().name)
        self.sent.append({"name": name, "args": args, **options})

    @property
    def payloads(self) -> list[Any]:
        return [task["args"][0] for task in self.sent]


class Offered(KnownQueues):
    """What workers offer, said by the test."""

    def __init__(self, *names: str) -> None:
        super().__init__(Settings())
        self._names = frozenset(names)
        self._read_at = time.monotonic() + 3600


@pytest.fixture
def celery() -> RecordingCelery:
    return RecordingCelery()


@pytest.fixture(autouse=True)
def here(process: Runtime, celery: RecordingCelery) -> Runtime:
    here = runtime.configure(process.settings, celery=cast("Celery", celery))
    here.__dict__["known_queues"] = Offered("mail", "a.b")
    return here


def test_a_push_sends_the_queues_task(celery: RecordingCelery) -> None:
    job = queues.get("mail").push({"to": "ann"})
    [task] = celery.sent
    assert task["name"] == "queues.mail"
    assert task["args"] == [{"to": "ann"}]
    assert task["task_id"] == job
    assert task["ignore_result"] is True


def test_a_queue_in_a_folder_has_a_dotted_name(celery: RecordingCelery) -> None:
    queues.get("a.b").push(1)
    assert celery.sent[0]["name"] == "queues.a.b"


def test_a_payload_is_not_repeated_in_the_tasks_headers(celery: RecordingCelery) -> None:
    queues.get("mail").push({"password": "hush"})
    [task] = celery.sent
    assert (task["argsrepr"], task["kwargsrepr"]) == ("", "")
    assert "hush" not in repr(task["headers"])


def test_the_jobs_id_is_a_plain_text_of_its_own() -> None:
    jobs = {queues.get("mail").push(number) for number in range(10)}
    assert len(jobs) == 10
    for job in jobs:
        assert isinstance(job, str)
        assert str(UUID(job)) == job


@pytest.mark.parametrize(
    ("payload", "carried"),
    [
        ("text", "text"),
        ('{"not": "decoded"}', '{"not": "decoded"}'),
        (b"\x00\xff", b"\x00\xff"),
        ({"a": [1, None, True]}, {"a": [1, None, True]}),
        ([], []),
        (0, 0),
        (None, None),
        ((1, 2), [1, 2]),
        (
            Mail("ann", datetime(2024, 1, 2, tzinfo=UTC)),
            {"to": "ann", "at": "2024-01-02T00:00:00Z"},
        ),
        ({"raw": b"x"}, {"raw": "eA=="}),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
    ids=repr,
)
def test_a_payload_travels_as_text_bytes_or_json(
    celery: RecordingCelery, payload: object, carried: object
) -> None:
    queues.get("mail").push(payload)
    assert celery.payloads == [carried]
    assert type(celery.payloads[0]) is type(carried)


def test_a_payload_without_a_json_form_is_refused_at_once(celery: RecordingCelery) -> None:
    with pytest.raises(NotEncodable):
        queues.get("mail").push(object())
    assert celery.sent == []


async def test_a_payload_without_a_json_form_is_refused_before_any_await() -> None:
    with pytest.raises(NotEncodable):
        queues.get("mail").push(object())


def test_later_changes_of_a_payload_do_not_reach_the_job(celery: RecordingCelery) -> None:
    payload = {"list": [1]}
    queues.get("mail").push(payload)
    payload["list"].append(2)
    assert celery.payloads == [{"list": [1]}]


# What travels beside the payload


def test_a_job_belongs_to_the_user_whose_call_pushed_it(celery: RecordingCelery) -> None:
    user = {"id": "ann", "email": "ann@example.com"}
    with context.running(Call(user=user, user_id=UserId("ann"))):
        queues.get("mail").push(1)
    assert celery.sent[0]["headers"]["queue_run"]["user"] == user


def test_outside_a_call_a_job_belongs_to_nobody(celery: RecordingCelery) -> None:
    queues.get("mail").push(1)
    assert celery.sent[0]["headers"]["queue_run"].get("user") is None


def test_a_job_knows_when_it_was_pushed(celery: RecordingCelery) -> None:
    before = time.time()
    queues.get("mail").push(1)
    assert before <= celery.sent[0]["headers"]["queue_run"]["queued_at"] <= time.time()


async def test_the_user_is_that_of_the_push_and_not_of_its_end(celery: RecordingCelery) -> None:
    with context.running(Call(user={"id": "ann"}, user_id=UserId("ann"))):
        job = queues.get("mail").push(1)
    await job
    assert celery.sent[0]["headers"]["queue_run"]["user"] == {"id": "ann"}


# Asynchronous code


async def test_awaiting_a_push_gives_the_id(celery: RecordingCelery) -> None:
    job = queues.get("mail").push(1)
    assert await job == job
    assert [task["task_id"] for task in celery.sent] == [job]


async def test_a_push_never_runs_on_the_event_loop(celery: RecordingCelery) -> None:
    await queues.get("mail").push(1)
    assert threading.current_thread().name not in celery.threads


async def test_jobs_that_are_not_awaited_keep_their_order(celery: RecordingCelery) -> None:
    for number in range(100):
        job = queues.get("mail").push(number)
    await job
    assert celery.payloads == list(range(100))


async def test_closing_the_process_sends_jobs_that_were_not_awaited(
    here: Runtime, celery: RecordingCelery
) -> None:
    queues.get("mail").push(1)
    await asyncio.to_thread(here.close)
    assert celery.payloads == [1]


def test_in_synchronous_code_the_job_is_with_the_broker_when_push_returns(
    celery: RecordingCelery,
) -> None:
    queues.get("mail").push(1)
    assert celery.threads == {threading.current_thread().name}


async def test_the_id_of_a_job_pushed_elsewhere_may_be_awaited_too() -> None:
    job = await asyncio.to_thread(queues.get("mail").push, 1)
    assert await job == job


# Failures


def test_without_a_broker_a_push_fails(celery: RecordingCelery) -> None:
    celery.failure = OperationalError("connection refused")
    with pytest.raises(DispatchUnavailable, match="the broker took no job: connection refused"):
        queues.get("mail").push(1)


async def test_without_a_broker_awaiting_a_push_fails(celery: RecordingCelery) -> None:
    celery.failure = OperationalError("connection refused")
    job = queues.get("mail").push(1)
    with pytest.raises(DispatchUnavailable, match="the broker took no job: connection refused"):
        await job


def test_a_push_to_a_queue_that_nobody_offers_is_refused(celery: RecordingCelery) -> None:
    with pytest.raises(UnknownQueue, match=r"no queue 'mial': the workers offer a\.b, mail"):
        queues.get("mial").push(1)
    assert celery.sent == []


async def test_awaiting_a_push_to_a_queue_that_nobody_offers_is_refused() -> None:
    job = queues.get("mial").push(1)
    with pytest.raises(UnknownQueue):
        await job


def test_getting_a_queue_asks_nobody() -> None:
    assert repr(queues.get("anything")) == "queues.get('anything')"

"""What is a task for Celery's consumer. Real workers: tests/acceptance/test_unreadable.py."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery import Celery
from celery.concurrency import prefork, solo, thread
from celery.concurrency.base import BasePool
from celery.worker.state import active_requests
from kombu import Message
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from queue_run.broker.celery_app import create_celery
from queue_run.contracts.keys import REQUESTS_TASK
from queue_run.settings import Settings
from worker.celery_side.consumer import (
    SILENCE,
    Consumer,
    check_task,
    has_time_for_requests,
    serves_requests,
)

GOOD: list[Any] = [[], {}, {}]


def message(body: object = GOOD, **headers: Any) -> Message:
    return cast("Message", SimpleNamespace(headers=headers, payload=body))


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        [[1], {"a": 1}, None],
        ([], {}, {"callbacks": None}),
        {"task": "a", "id": "1", "args": [1], "kwargs": {}},
        {"task": "a", "id": "1"},
    ],
    ids=repr,
)
def test_a_task_is_one(body: object) -> None:
    check_task(message(body))


@pytest.mark.parametrize("limits", [None, [None, None], [1, 2.5], (3, None)], ids=repr)
def test_its_time_limits_may_be_left_out(limits: object) -> None:
    check_task(message(timelimit=limits))


@pytest.mark.parametrize(
    "body",
    [
        *(None, 5, "text", [], [1], [1, 2, 3], [[], {}], [[], {}, {}, {}]),
        *([5, {}, {}], [[], [], {}], [[], {}, 5], {"args": 5}, {"kwargs": []}),
        {"timelimit": "soon"},
    ],
    ids=repr,
)
def test_what_is_no_task_is_refused(body: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        check_task(message(body))


@pytest.mark.parametrize(
    "limits",
    ["soon", ["a", "b"], [1], 5, {}, [-1, None], [float("nan"), None], [1, 2, 3]],
    ids=repr,
)
def test_time_limits_that_would_end_the_worker_are_refused(limits: object) -> None:
    with pytest.raises(ValueError, match="time limits"):
        check_task(message(timelimit=limits))


def test_headers_that_are_none_are_refused() -> None:
    bad = SimpleNamespace(headers=5, payload=GOOD)
    with pytest.raises(TypeError, match="headers"):
        check_task(cast("Message", bad))


# Requests beside jobs


def app_of(*queues: str) -> Celery:
    """The application of a worker that consumes these, as `-Q` says; all without any."""
    app = create_celery(Settings(redis_url="redis://127.0.0.1:1/0", namespace="shop"))
    if queues:
        app.amqp.queues.select(list(queues))
    return app


def test_a_worker_serves_requests_unless_it_is_told_otherwise() -> None:
    assert serves_requests(app_of())
    assert serves_requests(app_of("shop.sockets"))
    assert not serves_requests(app_of("shop.jobs"))


@pytest.mark.parametrize(
    ("pool", "places", "has_time"),
    [
        (solo.TaskPool, 8, False),
        (prefork.TaskPool, 1, False),
        (prefork.TaskPool, 2, True),
        (thread.TaskPool, 1, True),
    ],
)
def test_drains_share_the_only_place_with_requests(
    pool: type[BasePool], places: int, has_time: bool
) -> None:
    worker = SimpleNamespace(pool_cls=pool, concurrency=places)
    assert has_time_for_requests(app_of(), worker) is has_time
    assert has_time_for_requests(app_of("shop.jobs"), worker)


class Job:
    """A request that Celery runs, as far as it counts here."""


def consumer_of(pool: object, overdue: float = 0.0) -> Consumer:
    """A consumer without a worker: what its loop does is done by the test."""
    made = Consumer.__new__(Consumer)
    made.pool = pool
    channel = SimpleNamespace(overdue=overdue)
    made.task_consumer = SimpleNamespace(channel=channel, apart=SimpleNamespace(channel=channel))
    return made


def test_a_worker_takes_messages_while_its_loop_comes_round() -> None:
    here = consumer_of(object())
    found = [here.takes]
    here._tick()
    found.append(here.takes)
    here._ticked_at -= 2 * SILENCE
    found.append(here.takes)
    assert found == [False, True, False]


def test_a_silent_link_is_no_sign_of_life() -> None:
    here = consumer_of(object(), overdue=60.0)
    here._tick()
    assert not here.takes


def test_a_job_that_holds_the_loop_of_a_solo_worker_is_no_fault() -> None:
    here = consumer_of(solo.TaskPool.__new__(solo.TaskPool))
    job: Any = Job()
    active_requests.add(job)
    while_it_runs = here.takes
    active_requests.discard(job)
    assert (while_it_runs, here.takes) == (True, False)


def test_requests_that_wait_for_a_process_are_taken_from_it_and_jobs_are_not() -> None:
    given: list[Any] = []
    semaphore: Any = LaxBoundedSemaphore(1)
    for name in ("runs", REQUESTS_TASK, "queues.work", REQUESTS_TASK):
        semaphore.acquire(given.append, SimpleNamespace(type=name, number=len(semaphore._waiting)))
    consumer = Consumer.__new__(Consumer)
    consumer.controller = SimpleNamespace(semaphore=semaphore)
    # A RabbitMQ's own come again.
    assert consumer._without_process() == []
    consumer._requests = cast("Any", "the channel of requests")
    found = consumer._without_process()
    # The oldest first.
    assert [arguments[0].number for _, arguments, _ in found] == [0, 2]
    assert consumer._without_process() == []
    semaphore.release()
    assert [each.type for each in given] == ["runs", "queues.work"]


@pytest.mark.parametrize("controller", [None, SimpleNamespace(), SimpleNamespace(semaphore=None)])
def test_where_there_are_no_processes_no_request_waits_for_one(controller: Any) -> None:
    consumer = Consumer.__new__(Consumer)
    consumer.controller = controller
    consumer._requests = cast("Any", "the channel of requests")
    assert consumer._without_process() == []

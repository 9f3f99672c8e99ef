"""How many drains a pool gets that answers requests too."""

import gc
from typing import Any

import pytest

from worker.jobs.drain_gate import DrainGate


class Request:
    """A task as Celery hands it on."""

    def __init__(self, name: str = "queue_run.drain") -> None:
        self.type = name
        self.when_settled: Any = None

    def settle(self) -> None:
        self.when_settled(self)


class Pool:
    def __init__(self, most: int | None) -> None:
        self.most = most
        self.given: list[Request] = []
        self.gate = DrainGate(self.given.append, lambda: self.most)

    def admit(self, *requests: Request) -> None:
        for request in requests:
            self.gate.admit(request)


def test_drains_beyond_the_limit_wait_until_one_has_ended() -> None:
    pool = Pool(1)
    first, second, third = Request(), Request(), Request()
    pool.admit(first, second, third)
    assert pool.given == [first]
    first.settle()
    assert pool.given == [first, second]
    second.settle()
    assert pool.given == [first, second, third]


def test_other_tasks_pass_at_once() -> None:
    pool = Pool(1)
    drain, waiting, job = Request(), Request(), Request("queues.mail")
    pool.admit(drain, waiting, job)
    assert pool.given == [drain, job]


@pytest.mark.parametrize("most", [None, 3])
def test_without_a_limit_or_within_it_all_pass(most: int | None) -> None:
    pool = Pool(most)
    drains = [Request() for _ in range(3)]
    pool.admit(*drains)
    assert pool.given == drains


def test_a_pool_that_has_grown_gets_more() -> None:
    pool = Pool(1)
    drains = [Request(), Request()]
    pool.admit(*drains)
    pool.most = 2
    pool.gate.go_on()
    assert pool.given == drains


def test_a_drain_that_celery_has_dropped_holds_no_place() -> None:
    pool = Pool(1)
    dropped, waiting = Request(), Request()
    pool.admit(dropped, waiting)
    pool.given.clear()
    del dropped
    gc.collect()
    pool.gate.go_on()
    assert pool.given == [waiting]


def test_what_waits_when_the_link_is_lost_is_dropped() -> None:
    pool = Pool(1)
    first = Request()
    pool.admit(first, Request())
    pool.gate.clear()
    first.settle()
    assert pool.given == [first]

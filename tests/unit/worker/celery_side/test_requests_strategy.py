"""Which way a batch of requests takes in a worker. That it arrives is shown by tests/acceptance."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery import Celery
from celery.concurrency import solo, thread
from celery.concurrency.base import BasePool

from queue_run.errors import InvalidEnvelope
from worker.celery_side import requests_strategy
from worker.celery_side.requests_strategy import strategy_for


class Batch:
    """A message of Celery's protocol 2, with one argument."""

    def __init__(self, *arguments: str) -> None:
        self.payload: tuple[Any, ...] = (arguments, {}, {})
        self.acknowledged = False

    def ack_log_error(self, *_: Any) -> None:
        self.acknowledged = True


class Consumer:
    """What a strategy sees of a worker."""

    connection_errors = (OSError,)

    def __init__(self, pool: type[BasePool], *, events: bool = False) -> None:
        self.pool = pool.__new__(pool)
        self.event_dispatcher = SimpleNamespace(enabled=events)


@pytest.fixture
def celerys(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Celery's own strategy was given."""
    given: list[Any] = []

    def default(*_: Any, **__: Any) -> Any:
        return lambda *got: given.append(got)

    monkeypatch.setattr(requests_strategy, "default", default)
    return given


def receive(
    batch: Batch, consumer: Consumer, take: Callable[[str], None] | None = None
) -> list[str]:
    """Let a worker receive the batch; what is taken at once."""
    taken: list[str] = []
    received = strategy_for(take or taken.append)(cast("Any", None), Celery(), consumer)
    received(batch, None, "ack", "reject", [])
    return taken


@pytest.mark.parametrize("pool", [solo.TaskPool, thread.TaskPool])
def test_a_batch_is_taken_at_once_where_tasks_run_in_the_workers_process(
    celerys: list[Any], pool: type[BasePool]
) -> None:
    batch = Batch("1[]")
    assert receive(batch, Consumer(pool)) == ["1[]"]
    assert batch.acknowledged
    assert celerys == []


def test_a_batch_is_a_task_like_any_other_where_processes_run_them(celerys: list[Any]) -> None:
    batch = Batch("1[]")
    assert receive(batch, Consumer(BasePool)) == []
    assert celerys == [(batch, None, "ack", "reject", [])]


def test_whoever_follows_celerys_events_sees_every_batch(celerys: list[Any]) -> None:
    batch = Batch("1[]")
    assert receive(batch, Consumer(solo.TaskPool, events=True)) == []
    assert celerys == [(batch, None, "ack", "reject", [])]


def test_a_batch_that_fails_unexpectedly_does_not_end_the_worker(
    celerys: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("no loop")

    assert receive(Batch("1[]"), Consumer(solo.TaskPool), fail) == []
    assert "a batch of requests was lost" in caplog.text


def test_a_batch_that_cannot_be_read_is_left_to_the_consumer(celerys: list[Any]) -> None:
    def fail(_: str) -> None:
        raise InvalidEnvelope(b"5", "no batch")

    with pytest.raises(InvalidEnvelope):
        receive(Batch("1[]"), Consumer(solo.TaskPool), fail)
    with pytest.raises(ValueError, match="unpack"):
        receive(Batch(), Consumer(solo.TaskPool))

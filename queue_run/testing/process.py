"""The runtime of a process whose application is under test."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

import msgspec

from queue_run.channel.publisher import Publisher
from queue_run.queues import JOB_HEADER, JobFacts
from queue_run.runtime import Runtime
from queue_run.settings import Settings
from queue_run.testing.delivery import DeliveringPublisher, Delivery
from queue_run.testing.jobs import Pushed, PushedJobs

P = ParamSpec("P")
T = TypeVar("T")


class InProcessRuntime(Runtime):
    """Messages go to the clients of the test, jobs into a list."""

    def __init__(self, settings: Settings, delivery: Delivery, jobs: PushedJobs) -> None:
        super().__init__(settings)
        self._delivery = delivery
        self._jobs = jobs

    @cached_property
    def publisher(self) -> Publisher:
        return DeliveringPublisher(self._delivery)

    @cached_property
    def pusher(self) -> Executor:
        return _AtOnce()

    def push(self, queue: str, job_id: str, argument: Any, headers: dict[str, Any]) -> None:
        facts = msgspec.convert(headers[JOB_HEADER], JobFacts)
        self._jobs.add(
            Pushed(
                queue=queue,
                payload=argument,
                user=facts.user,
                id=job_id,
                queued_at=facts.queued_at,
            )
        )

    def after_fork(self) -> Runtime:
        # What a child of a test sends reaches nobody, and above all no real Redis.
        return self


class _AtOnce(Executor):
    """Runs everything where it is submitted, so that a push nobody awaits is recorded too."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

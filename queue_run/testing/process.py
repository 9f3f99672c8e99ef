"""The runtime of a process whose application is under test."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import cached_property
from typing import ParamSpec, TypeVar

from queue_run.channel.publisher import Publisher
from queue_run.contracts.ids import UserId
from queue_run.contracts.manifest import QueueFacts
from queue_run.errors import UnknownQueue
from queue_run.jobs.attempt_records import Attempts
from queue_run.jobs.groups import Groups
from queue_run.jobs.groups import PushedToGroup as PushedToGroup
from queue_run.jobs.pushing import JobPusher
from queue_run.jobs.stored import DeadLetter, StoredJob
from queue_run.presence import Presence
from queue_run.process.runtime import LocalQueue, Runtime
from queue_run.settings import Settings
from queue_run.storage.scripts import Store
from queue_run.testing.delivery import DeliveringPublisher, KitDelivery
from queue_run.testing.jobs import PushedJobs
from queue_run.testing.letters import KeptLetters

P = ParamSpec("P")
T = TypeVar("T")


class InProcessRuntime(Runtime):
    """A runtime without Redis: messages go to the clients of the test, jobs into a list."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.delivery = KitDelivery()
        self.jobs = PushedJobs()
        self._letters = KeptLetters(self.jobs)

    @cached_property
    def publisher(self) -> Publisher:
        return DeliveringPublisher(self.delivery)

    @cached_property
    def pusher(self) -> Executor:
        return _AtOnce()

    @cached_property
    def asker(self) -> Executor:
        return _AtOnce()

    @cached_property
    def presence(self) -> Presence:
        return _InProcessPresence(self.delivery)

    @cached_property
    def store(self) -> Store:
        raise RuntimeError("an application under test has no Redis")

    @cached_property
    def attempts(self) -> Attempts:
        return _InProcessAttempts(self.jobs, self._letters)

    @cached_property
    def dead_letters(self) -> KeptLetters:
        return self._letters

    def measure_clock(self, *, after: float = 0.0) -> None:
        """Do nothing: the test's own clock is the only one."""

    def queue(self, name: str) -> LocalQueue:
        """One of the application's queues.

        Raises:
            UnknownQueue: when it has no such queue.
        """
        if name not in self.local_queues:
            raise UnknownQueue(name, self.local_queues)
        return self.local_queues[name]

    def push(self, job: StoredJob, facts: QueueFacts | None, dedupe: str | None) -> str:
        return _KeepingPusher(self.jobs, dedupe).push(job, facts, dedupe)

    def clear(self) -> None:
        """Forget the messages that were sent, the jobs that were pushed, and the dead letters."""
        self.delivery.clear()
        self.jobs.clear()
        self._letters.clear()

    def after_fork(self) -> Runtime:
        # What a child of a test sends reaches nobody, and above all no real Redis.
        return self


class _KeepingPusher(JobPusher):
    """Pushes one job, into a list."""

    def __init__(self, jobs: PushedJobs, dedupe: str | None) -> None:
        # Without the base's own set-up, which is Celery.
        self._jobs = jobs
        self._groups = _KeepingGroups(jobs, dedupe)

    def send(
        self, job: StoredJob, facts: QueueFacts | None, *, also_when_full: bool = False
    ) -> None:
        self._jobs.push(job)


class _KeepingGroups(Groups):
    """The FIFO groups, for one push.

    Args:
        dedupe: what was given; without it the pusher compares payloads.
    """

    def __init__(self, jobs: PushedJobs, dedupe: str | None) -> None:
        # Without the base's own set-up, which is Redis.
        self._jobs = jobs
        self._dedupe = dedupe

    def push(self, job: StoredJob, dedupe: str) -> PushedToGroup:
        job_id = self._jobs.push(job, same=dedupe, dedupe=self._dedupe)
        return PushedToGroup(job_id, needs_drain=False)


class _InProcessAttempts(Attempts):
    """The attempts of a test's jobs, for `queues.cancel` and for jobs that fail for good."""

    def __init__(self, jobs: PushedJobs, letters: KeptLetters) -> None:
        # Without the base's own set-up, which is Redis.
        self._jobs = jobs
        self._letters = letters

    def cancel(self, job_id: str) -> bool:
        return self._jobs.cancel(job_id)

    def park(self, letter: DeadLetter, token: str) -> bool:
        self._letters.keep(letter)
        return True


class _InProcessPresence(Presence):
    """The presence of a test: a user with an open connection in the test is online."""

    def __init__(self, delivery: KitDelivery) -> None:
        # Without the base's own set-up, which is Redis.
        self._delivery = delivery

    def online(self, users: Sequence[UserId]) -> list[UserId]:
        here = set(self._delivery.online)
        return [user for user in users if user in here]


class _AtOnce(Executor):
    """Runs everything at once in the calling thread: a push without `await` is recorded too."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

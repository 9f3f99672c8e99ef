"""Jobs that have failed for good: `from queue_run import dead_letters`.

One call for both worlds, which gives an `Answer`: in synchronous code its `value` is there on
return, in asynchronous code `await` the call. `queue-run queue dead` is the same on the command
line.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from queue_run.contracts.answers import Answer, do, warn_of_former
from queue_run.contracts.ids import job_id as checked
from queue_run.errors import UnknownDeadLetter
from queue_run.jobs.stored import DeadLetter
from queue_run.process import runtime

__all__ = ["drop", "get", "newest", "retry"]

T = TypeVar("T")


def newest(queue: str | None = None, *, limit: int = 100) -> Answer[list[DeadLetter]]:
    """List the dead letters of a queue, or of all queues, the newest first.

    Args:
        queue: the queue's name; None for all queues.
        limit: the largest number of dead letters to list.

    Raises:
        JobStoreUnavailable: when Redis does not answer in time.
    """
    return _asked(partial(_newest, queue, limit))


def get(job_id: str) -> Answer[DeadLetter]:
    """One dead letter.

    Raises:
        InvalidName: for what is no id of a job.
        UnknownDeadLetter: when there is none of this job.
        JobStoreUnavailable: when Redis does not answer in time.
    """
    return _asked(partial(_get, checked(job_id)))


def retry(job_id: str) -> Answer[None]:
    """Run a job again, under its id and with all its attempts; in a FIFO queue as the last of its
    group.

    Raises:
        InvalidName: for what is no id of a job.
        UnknownDeadLetter: when there is none of this job.
        JobStoreUnavailable: when Redis does not answer in time.
    """
    return _asked(partial(_retry, checked(job_id)))


def drop(job_id: str) -> Answer[None]:
    """Forget a job.

    Raises:
        InvalidName: for what is no id of a job.
        UnknownDeadLetter: when there is none of this job.
        JobStoreUnavailable: when Redis does not answer in time.
    """
    return _asked(partial(_drop, checked(job_id)))


class _Asked(Answer[T], Generic[T]):
    """An answer that is also used as its value, which is what these functions gave until there was
    one answer for both worlds. Until 1.0."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            # What Python itself looks for.
            raise AttributeError(name)
        return getattr(self._former(), name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._former())

    def __len__(self) -> int:
        return len(self._former())

    def __getitem__(self, place: Any) -> Any:
        return self._former()[place]

    def __contains__(self, item: object) -> bool:
        return item in self._former()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Answer):
            return self is other
        return bool(self._former() == other)

    __hash__ = object.__hash__

    def _former(self) -> Any:
        warn_of_former("the answer of dead_letters as its value", "….value, or await", 4)
        return self.value


def _asked(work: Callable[[], T]) -> Answer[T]:
    answer = _Asked[T]()
    do(answer, _asker, work)
    return answer


def _asker() -> Executor:
    return runtime.current().asker


def _newest(queue: str | None, limit: int) -> list[DeadLetter]:
    return runtime.current().dead_letters.newest(queue, limit=limit)


def _get(job_id: str) -> DeadLetter:
    letter = runtime.current().dead_letters.get(job_id)
    if letter is None:
        raise UnknownDeadLetter(job_id)
    return letter


def _retry(job_id: str) -> None:
    letter = _get(job_id)
    job = letter.job
    facts = msgspec.structs.replace(job.facts, revived=job.facts.revived + 1)
    again = msgspec.structs.replace(job, facts=facts)
    if not runtime.current().dead_letters.revive(letter, again):
        raise UnknownDeadLetter(job_id)


def _drop(job_id: str) -> None:
    if not runtime.current().dead_letters.drop(job_id):
        raise UnknownDeadLetter(job_id)

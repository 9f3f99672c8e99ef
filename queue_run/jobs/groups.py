"""FIFO groups: the jobs of a group wait in a list, and one drain at a time runs them in order.

A group is a list of jobs. `<namespace>:lanes` is the set of all groups that hold any, with the time
at which somebody must look after each: when its drain has not come, when the lease of its drain
has ended, when the retry of its first job is due. A drain holds the group under a lease, by a token
that fences it: whatever it says after it has lost the lease is refused.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

from queue_run.errors import InvalidEnvelope
from queue_run.jobs.attempt_records import LIVING_EXPIRY
from queue_run.jobs.stored import StoredJob, decode_job, encode
from queue_run.storage.script_files import load
from queue_run.storage.scripts import Store, milliseconds

log = logging.getLogger(__name__)

#: Seconds in which the same thing is not pushed twice to a group.
DEDUPE_WINDOW = 5 * 60.0
#: Seconds after which a drain that was sent for a group counts as lost. A drain that has begun
#: tells sooner; this one was lost with the broker, or waits behind many other jobs.
DRAIN_EXPIRY = 60.0

_PUSH = load("groups/push")
_ADVANCE = load("groups/advance")
_POSTPONE = load("groups/postpone")
_RENEW = load("groups/renew")
_TAKE_DUE = load("groups/take_due")

#: What to do with a group: run its first job; end that job, it was cancelled; park it, its attempts
#: are used up; leave the group, it is empty, held by somebody else, or to be gone on with later.
Step: TypeAlias = Literal["run", "cancelled", "exhausted", "empty", "refused", "later"]


@dataclass(frozen=True, slots=True)
class Group:
    """The jobs of one group of a queue."""

    queue: str
    id: str

    @property
    def name(self) -> str:
        # A queue is named after a file of Python, so its name holds no colon.
        return f"{self.queue}:{self.id}"

    @classmethod
    def parse(cls, name: str) -> "Group":
        queue, _, id = name.partition(":")
        return cls(queue, id)


@dataclass(frozen=True, slots=True)
class PushedToGroup:
    """The result of a push to a group."""

    #: The job that waits: another one than was pushed, where that was a duplicate.
    job_id: str
    #: Whether a drain must be sent for the group.
    needs_drain: bool


@dataclass(frozen=True, slots=True)
class Next:
    """The next step in a group."""

    step: Step
    job: StoredJob | None = None
    #: Attempts that were begun, this one included where it is to be run.
    attempt: int = 0
    #: Position of the job within its queue.
    sequence: int = 0


class Groups:
    """The groups of all FIFO queues.

    Args:
        lease: seconds after which a drain that is not renewed counts as lost.
    """

    def __init__(self, store: Store, *, lease: float) -> None:
        self._store = store
        self._keys = store.keys
        self._lease = milliseconds(lease)
        self._living = milliseconds(LIVING_EXPIRY)

    def push(self, job: StoredJob, dedupe: str) -> PushedToGroup:
        """Put a job at the end of its group, unless it is there already.

        Args:
            dedupe: equal for what is the same push within `DEDUPE_WINDOW` seconds.
        """
        group = self._group(job)
        keys = [
            self._keys.group(group.name),
            self._keys.groups,
            self._keys.dedupe(group.name, dedupe),
            self._keys.sequence(group.queue),
        ]
        arguments = [
            job.id,
            encode(job),
            milliseconds(DEDUPE_WINDOW),
            group.name,
            milliseconds(DRAIN_EXPIRY),
        ]
        job_id, needs_drain = self._store.call_in_time(_PUSH, keys, arguments)
        return PushedToGroup(job_id.decode(), bool(needs_drain))

    def drain(self, group: Group, token: str, *, most: int) -> "Drain":
        """Begin to drain a group.

        Args:
            token: unique to the drain.
            most: attempts that a job of the queue may have.
        """
        name = group.name
        keys = [self._keys.group(name), self._keys.group_lease(name), self._keys.groups]
        arguments = (
            *(token, self._lease, name, self._keys.job(""), most, self._living),
            milliseconds(DRAIN_EXPIRY),
        )
        return Drain(
            group,
            lambda done, stop: self._store.call(_ADVANCE, keys, (*arguments, done, stop)),
            partial(self._give_back, group, token, after=DRAIN_EXPIRY),
        )

    def postpone(self, group: Group, token: str, job_id: str, after: float) -> None:
        """Give the group back, to be gone on with `after` so many seconds, or at once if it was
        cancelled: its first job failed."""
        self._give_back(group, token, job_id, after)

    def renew(self, leases: list[tuple[Group, str, str]]) -> list[bool]:
        """Renew the leases of (group, token, id of its first job), as far as they are still held.

        Returns:
            Whether each of the jobs was cancelled.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        answers = self._store.call_all(
            (
                _RENEW,
                [self._keys.group_lease(group.name), self._keys.groups, self._keys.job(job_id)],
                [token, self._lease, group.name],
            )
            for group, token, job_id in leases
        )
        return [bool(answer) for answer in answers]

    def take_due(self, limit: int) -> list[Group]:
        """Claim groups that a sweeper must look after, at most `limit`.

        No other sweeper gets them for `DRAIN_EXPIRY` seconds.
        """
        arguments = [milliseconds(DRAIN_EXPIRY), limit]
        names = self._store.call(_TAKE_DUE, [self._keys.groups], arguments)
        return [group for name in names if (group := _group_named(name)) is not None]

    def _give_back(
        self, group: Group, token: str, job_id: str, after: float, uncount: bool = False
    ) -> None:
        keys = [self._keys.group_lease(group.name), self._keys.groups, self._keys.job(job_id)]
        arguments = [token, milliseconds(after), group.name, int(uncount)]
        self._store.call(_POSTPONE, keys, arguments)

    def _group(self, job: StoredJob) -> Group:
        assert job.facts.group is not None
        return Group(job.queue, job.facts.group)


class Drain:
    """Takes a group's jobs, one after another; what it asks Redis for each is put together once."""

    def __init__(
        self, group: Group, ask: Callable[[str, int], Any], give_back: Callable[..., None]
    ) -> None:
        self._group = group
        self._ask = ask
        self._give_back = give_back

    def advance(self, *, done: str = "", stop: bool = False) -> Next:
        """Take the group's lease or renew it, remove the job that is done, and begin the next.

        Args:
            done: id of the group's first job, if it has ended.
            stop: begin no more, and give the group back.
        """
        step, attempt, entry = self._ask(done, int(stop))
        step = _STEPS[step]
        if not entry:
            return Next(step)
        sequence, job_id, data = _parts(entry)
        try:
            return Next(step, decode_job(data), attempt, int(sequence))
        except (InvalidEnvelope, ValueError) as error:
            # A newer worker may be able to read it, and the others must not pass it.
            log.error("%s waits, for its first job cannot be read: %s", self._group.name, error)
            self._give_back(job_id, uncount=step == "run")
            return Next("refused")


def _group_named(name: bytes) -> Group | None:
    try:
        return Group.parse(name.decode())
    except UnicodeDecodeError as error:
        log.error("a name among the groups cannot be read, and is passed over: %s", error)
        return None


def _parts(entry: bytes) -> tuple[bytes, str, bytes]:
    """Sequence number, job id and envelope of an entry."""
    sequence, _, rest = entry.partition(b" ")
    job_id, _, data = rest.partition(b" ")
    return sequence, job_id.decode(errors="replace"), data


#: By their text in the script's answer.
_STEPS: dict[bytes, Step] = {step.encode(): step for step in get_args(Step)}

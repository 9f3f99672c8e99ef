"""A job's attempts: counted, one at a time, and none after its end.

What Redis knows of a job is the hash `<namespace>:job:<id>`:

- `n`: attempts that were begun
- `owner`, `until`: the token of the attempt that runs, and when its lease ends (milliseconds)
- `lane`: where it waits for a retry as the first job of its group
- `cancelled`: somebody has asked for its end
- `ended`, `by`: how it ended, and the token of the attempt that said so; `withdrawn` without an
  attempt, where its push has failed

A broker may hand a job out again while it runs, or after its end: its lease tells the first, its
end the second. A lease that is not renewed any more belonged to a worker that is gone.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from queue_run.jobs.stored import DeadLetter, StoredJob, encode
from queue_run.storage.script_files import load
from queue_run.storage.scripts import Store, milliseconds

#: What to do with a job that a worker was handed: run it; nothing, it has ended, or its push has
#: failed; wait, it runs elsewhere; end it, it was cancelled; park it, its attempts are used up.
Verdict: TypeAlias = Literal["run", "ended", "withdrawn", "busy", "cancelled", "exhausted"]

#: How a job ends.
End: TypeAlias = Literal["finished", "failed", "cancelled"]

#: Seconds for which the attempts of a job are remembered while it waits.
LIVING_EXPIRY = 24 * 60 * 60
#: Seconds for which a cancellation waits for a job that is not running, and the withdrawal of one
#: that the broker may still get.
CANCEL_EXPIRY = 7 * 24 * 60 * 60

# In a full Redis the first write of a script decides whether it runs. What takes, ends, parks and
# renews must: it begins with a write that frees, or only expires.
_BEGIN = load("attempts/begin")
_END = load("attempts/end")
_RETRY = load("attempts/retry")
_PARK = load("attempts/park")
_RENEW = load("attempts/renew")
_RELEASE = load("attempts/release")
_CANCEL = load("attempts/cancel")
_WITHDRAW = load("attempts/withdraw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The answer to `begin`."""

    verdict: Verdict
    #: Attempts that were begun, this one included where it is to be run.
    attempt: int
    #: Seconds after which to come again, where it runs elsewhere.
    after: float = 0.0


class Attempts:
    """Begins and ends attempts.

    Args:
        lease: seconds after which an attempt that is not renewed counts as lost.
        visibility: seconds after which the broker hands out a job again whose end it has not
            heard of.
    """

    def __init__(self, store: Store, *, lease: float, visibility: float) -> None:
        self._store = store
        self._keys = store.keys
        self._lease = milliseconds(lease)
        self._living = milliseconds(LIVING_EXPIRY)
        self._ended = milliseconds(2 * visibility)

    def begin(self, job_id: str, token: str, *, most: int) -> Beginning:
        """Count an attempt and take the job's lease, if it may run.

        Args:
            token: unique to the attempt.
            most: attempts that the job may have.
        """
        verdict, attempt, after = self._store.call(
            _BEGIN, [self._keys.job(job_id)], [token, self._lease, most, self._living]
        )
        return Beginning(
            verdict=cast("Verdict", verdict.decode()), attempt=attempt, after=after / 1000
        )

    def end(self, job_id: str, token: str, end: End) -> bool:
        """Say how a job ended; False when it had ended already, otherwise."""
        keys = [self._keys.job(job_id), self._keys.delayed, self._keys.delayed_jobs]
        arguments = [token, end, self._ended, job_id]
        return bool(self._store.call(_END, keys, arguments))

    def retry(self, job: StoredJob, token: str, *, after: float) -> bool:
        """End the attempt and let the job come again `after` so many seconds, or at once to be
        ended if it was cancelled; False when another attempt has taken it over."""
        keys = [self._keys.job(job.id), self._keys.delayed, self._keys.delayed_jobs]
        arguments = [token, milliseconds(after), job.id, encode(job), self._living]
        return bool(self._store.call(_RETRY, keys, arguments))

    def park(self, letter: DeadLetter, token: str) -> bool:
        """End a job as failed and keep it as a dead letter; False when another attempt has taken
        it over, or it has ended."""
        job = letter.job
        keys = [
            *(self._keys.job(job.id), self._keys.dead, self._keys.dead_index),
            *(self._keys.delayed, self._keys.delayed_jobs),
        ]
        arguments = [token, job.id, encode(letter), self._ended]
        return bool(self._store.call(_PARK, keys, arguments))

    def renew(self, leases: list[tuple[str, str]]) -> list[bool]:
        """Renew the leases of (job id, token), as far as they are still held.

        Returns:
            Whether each of the jobs was cancelled.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        answers = self._store.call_all(
            (_RENEW, [self._keys.job(job_id)], [token, self._lease]) for job_id, token in leases
        )
        return [bool(answer) for answer in answers]

    def release(self, job_id: str, token_prefix: str) -> None:
        """End the lease of a process that has died: the job may begin at once elsewhere."""
        self._store.call(_RELEASE, [self._keys.job(job_id)], [token_prefix])

    def cancel(self, job_id: str) -> bool:
        """Ask for the end of a job, whether or not it has begun; False when it has ended."""
        keys = [self._keys.job(job_id), self._keys.delayed, self._keys.groups]
        arguments = [job_id, milliseconds(CANCEL_EXPIRY), self._keys.group_lease("")]
        return bool(self._store.call(_CANCEL, keys, arguments))

    def withdraw(self, job_id: str) -> bool:
        """End a job whose push has failed, should the broker get it all the same; False when it
        has got it already, and a worker has begun the job."""
        arguments = [milliseconds(CANCEL_EXPIRY)]
        return bool(self._store.call(_WITHDRAW, [self._keys.job(job_id)], arguments))

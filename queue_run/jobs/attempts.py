"""A job's attempts: counted, one at a time, and none after its end.

What Redis knows of a job is the hash `<namespace>:job:<id>`:

- `n`: attempts that were begun
- `owner`, `until`: the token of the attempt that runs, and when its lease ends (milliseconds)
- `lane`: where it waits for a retry as the first job of its lane
- `cancelled`: somebody has asked for its end
- `ended`, `by`: how it ended, and the token of the attempt that said so; `withdrawn` without an
  attempt, where its push has failed

A broker may hand a job out again while it runs, or after its end: its lease tells the first, its
end the second. A lease that is not renewed any more belonged to a worker that is gone.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from queue_run.jobs.envelopes import DeadLetter, JobEnvelope, encode
from queue_run.storage.scripts import NOW, Store, milliseconds

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
        self._begin = store.script(_BEGIN)
        self._end = store.script(_END)
        self._retry = store.script(_RETRY)
        self._park = store.script(_PARK)
        self._renew = store.script(_RENEW)
        self._release = store.script(_RELEASE)
        self._cancel = store.script(_CANCEL)
        self._withdraw = store.script(_WITHDRAW)

    def begin(self, job_id: str, token: str, *, most: int) -> Beginning:
        """Count an attempt and take the job's lease, if it may run.

        Args:
            token: unique to the attempt.
            most: attempts that the job may have.
        """
        verdict, attempt, after = self._store.call(
            self._begin, [self._keys.job(job_id)], [token, self._lease, most, self._living]
        )
        return Beginning(
            verdict=cast("Verdict", verdict.decode()), attempt=attempt, after=after / 1000
        )

    def end(self, job_id: str, token: str, end: End) -> bool:
        """Say how a job ended; False when it had ended already, otherwise."""
        keys = [self._keys.job(job_id), self._keys.delayed, self._keys.delayed_jobs]
        arguments = [token, end, self._ended, job_id]
        return bool(self._store.call(self._end, keys, arguments))

    def retry(self, job: JobEnvelope, token: str, *, after: float) -> bool:
        """End the attempt and let the job come again `after` so many seconds, or at once to be
        ended if it was cancelled; False when another attempt has taken it over."""
        keys = [self._keys.job(job.id), self._keys.delayed, self._keys.delayed_jobs]
        arguments = [token, milliseconds(after), job.id, encode(job), self._living]
        return bool(self._store.call(self._retry, keys, arguments))

    def park(self, letter: DeadLetter, token: str) -> bool:
        """End a job as failed and keep it as a dead letter; False when another attempt has taken
        it over, or it has ended."""
        job = letter.job
        keys = [
            *(self._keys.job(job.id), self._keys.dead, self._keys.dead_index),
            *(self._keys.delayed, self._keys.delayed_jobs),
        ]
        arguments = [token, job.id, encode(letter), self._ended]
        return bool(self._store.call(self._park, keys, arguments))

    def renew(self, leases: list[tuple[str, str]]) -> list[bool]:
        """Renew the leases of (job id, token), as far as they are still held.

        Returns:
            Whether each of the jobs was cancelled.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        answers = self._store.call_all(
            (self._renew, [self._keys.job(job_id)], [token, self._lease])
            for job_id, token in leases
        )
        return [bool(answer) for answer in answers]

    def release(self, job_id: str, token_prefix: str) -> None:
        """End the lease of a process that has died: the job may begin at once elsewhere."""
        self._store.call(self._release, [self._keys.job(job_id)], [token_prefix])

    def cancel(self, job_id: str) -> bool:
        """Ask for the end of a job, whether or not it has begun; False when it has ended."""
        keys = [self._keys.job(job_id), self._keys.delayed, self._keys.lanes]
        arguments = [job_id, milliseconds(CANCEL_EXPIRY), self._keys.lane_lease("")]
        return bool(self._store.call(self._cancel, keys, arguments))

    def withdraw(self, job_id: str) -> bool:
        """End a job whose push has failed, should the broker get it all the same; False when it
        has got it already, and a worker has begun the job."""
        arguments = [milliseconds(CANCEL_EXPIRY)]
        return bool(self._store.call(self._withdraw, [self._keys.job(job_id)], arguments))


# In a full Redis the first write of a script decides whether it runs. What takes, ends, parks and
# renews must: it begins with a write that frees, or only expires.

_BEGIN = f"""{NOW}
local job = redis.call('HMGET', KEYS[1], 'n', 'owner', 'until', 'ended', 'cancelled')
local n = tonumber(job[1] or 0)
if job[4] then return {{job[4] == 'withdrawn' and job[4] or 'ended', n, 0}} end
if job[2] == ARGV[1] then return {{'run', n, 0}} end
local left = tonumber(job[3] or 0) - now
if job[2] and left > 0 then return {{'busy', n, left}} end
if job[5] then return {{'cancelled', n, 0}} end
if n >= tonumber(ARGV[3]) then return {{'exhausted', n, 0}} end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[1], 'n', n + 1, 'owner', ARGV[1], 'until', now + ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {{'run', n + 1, 0}}
"""

# A copy that waits goes with the job: it could come when nobody remembers the end any more.
_END = """
if redis.call('HEXISTS', KEYS[1], 'ended') == 1 then
  return redis.call('HGET', KEYS[1], 'by') == ARGV[1] and 1 or 0
end
redis.call('HDEL', KEYS[1], 'owner', 'until', 'cancelled')
redis.call('HSET', KEYS[1], 'ended', ARGV[2], 'by', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[4])
redis.call('HDEL', KEYS[3], ARGV[4])
return 1
"""

# A record that is gone, with all that Redis held, does not keep a job from its retry.
_RETRY = f"""{NOW}
local job = redis.call('HMGET', KEYS[1], 'owner', 'ended', 'cancelled')
if job[2] or job[1] and job[1] ~= ARGV[1] then return 0 end
local due = now
if not job[3] then
  due = now + ARGV[2]
  redis.call('PEXPIRE', KEYS[1], ARGV[5] + ARGV[2])
end
redis.call('HDEL', KEYS[1], 'owner', 'until')
redis.call('ZADD', KEYS[2], due, ARGV[3])
redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
return 1
"""

_PARK = f"""{NOW}
local job = redis.call('HMGET', KEYS[1], 'owner', 'until', 'ended', 'by')
if job[3] then return job[4] == ARGV[1] and 1 or 0 end
if job[1] and job[1] ~= ARGV[1] and tonumber(job[2] or 0) > now then return 0 end
redis.call('HDEL', KEYS[1], 'owner', 'until', 'cancelled')
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[3], now, ARGV[2])
redis.call('HSET', KEYS[1], 'ended', 'failed', 'by', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZREM', KEYS[4], ARGV[2])
redis.call('HDEL', KEYS[5], ARGV[2])
return 1
"""

_RENEW = f"""{NOW}
local job = redis.call('HMGET', KEYS[1], 'owner', 'cancelled')
if job[1] == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'until')
  redis.call('HSET', KEYS[1], 'until', now + ARGV[2])
end
return job[2] and 1 or 0
"""

_RELEASE = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and string.sub(owner, 1, #ARGV[1]) == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'owner', 'until')
end
return 1
"""

# A job that waits for its retry comes at once, to be ended.
_CANCEL = f"""{NOW}
if redis.call('HEXISTS', KEYS[1], 'ended') == 1 then return 0 end
redis.call('HDEL', KEYS[1], 'cancelled')
redis.call('HSET', KEYS[1], 'cancelled', 1)
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('ZADD', KEYS[2], 'XX', now, ARGV[1])
local lane = redis.call('HGET', KEYS[1], 'lane')
if lane and redis.call('GET', ARGV[3] .. lane) == 'postponed' then
  redis.call('DEL', ARGV[3] .. lane)
  redis.call('ZADD', KEYS[3], 'XX', now, lane)
end
return 1
"""

_WITHDRAW = """
local job = redis.call('HMGET', KEYS[1], 'ended', 'n')
if job[1] then return job[1] == 'withdrawn' and 1 or 0 end
if job[2] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], 'ended', 'withdrawn')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""

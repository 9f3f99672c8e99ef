"""FIFO groups: the jobs of a group wait in its lane, and one drain at a time runs them in order.

A lane is a list of jobs. `<namespace>:lanes` is the set of all lanes that hold any, with the time
at which somebody must look after each: when its drain has not come, when the lease of its drain
has ended, when the retry of its first job is due. A drain holds the lane under a lease, by a token
that fences it: whatever it says after it has lost the lease is refused.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

from queue_run.errors import InvalidEnvelope
from queue_run.jobs.attempts import LIVING_EXPIRY
from queue_run.jobs.envelopes import JobEnvelope, decode_job, encode
from queue_run.storage.scripts import NOW, Store, milliseconds

log = logging.getLogger(__name__)

#: Seconds in which the same thing is not pushed twice to a group.
DEDUPE_WINDOW = 5 * 60.0
#: Seconds after which a drain that was sent for a lane counts as lost. A drain that has begun
#: tells sooner; this one was lost with the broker, or waits behind many other jobs.
DRAIN_EXPIRY = 60.0

#: What to do with a lane: run its first job; end that job, it was cancelled; park it, its attempts
#: are used up; leave the lane, it is empty, held by somebody else, or to be gone on with later.
Step: TypeAlias = Literal["run", "cancelled", "exhausted", "empty", "refused", "later"]


@dataclass(frozen=True, slots=True)
class Lane:
    """The jobs of one group of a queue."""

    queue: str
    group: str

    @property
    def name(self) -> str:
        # A queue is named after a file of Python, so its name holds no colon.
        return f"{self.queue}:{self.group}"

    @classmethod
    def parse(cls, name: str) -> "Lane":
        queue, _, group = name.partition(":")
        return cls(queue, group)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a push."""

    #: The job that waits: another one than was pushed, where that was a duplicate.
    job_id: str
    #: Whether a drain must be sent for the lane.
    needs_drain: bool


@dataclass(frozen=True, slots=True)
class Next:
    """What to do next in a lane."""

    step: Step
    job: JobEnvelope | None = None
    #: Attempts that were begun, this one included where it is to be run.
    attempt: int = 0
    #: Position of the job within its queue.
    sequence: int = 0


class Lanes:
    """The lanes of all FIFO queues.

    Args:
        lease: seconds after which a drain that is not renewed counts as lost.
    """

    def __init__(self, store: Store, *, lease: float) -> None:
        self._store = store
        self._keys = store.keys
        self._lease = milliseconds(lease)
        self._living = milliseconds(LIVING_EXPIRY)
        self._push = store.script(_PUSH)
        self._advance = store.script(_ADVANCE)
        self._postpone = store.script(_POSTPONE)
        self._renew = store.script(_RENEW)
        self._claim = store.script(_CLAIM)

    def push(self, job: JobEnvelope, dedupe: str) -> Pushed:
        """Put a job at the end of its group's lane, unless it is there already.

        Args:
            dedupe: equal for what is the same push within `DEDUPE_WINDOW` seconds.
        """
        lane = self._lane(job)
        keys = [
            self._keys.lane(lane.name),
            self._keys.lanes,
            self._keys.dedupe(lane.name, dedupe),
            self._keys.sequence(lane.queue),
        ]
        arguments = [
            job.id,
            encode(job),
            milliseconds(DEDUPE_WINDOW),
            lane.name,
            milliseconds(DRAIN_EXPIRY),
        ]
        job_id, needs_drain = self._store.call_in_time(self._push, keys, arguments)
        return Pushed(job_id.decode(), bool(needs_drain))

    def drain(self, lane: Lane, token: str, *, most: int) -> "Drain":
        """Begin to drain a lane.

        Args:
            token: unique to the drain.
            most: attempts that a job of the queue may have.
        """
        name = lane.name
        keys = [self._keys.lane(name), self._keys.lane_lease(name), self._keys.lanes]
        arguments = (
            *(token, self._lease, name, self._keys.job(""), most, self._living),
            milliseconds(DRAIN_EXPIRY),
        )
        return Drain(
            lane,
            lambda done, stop: self._store.call(self._advance, keys, (*arguments, done, stop)),
            partial(self._give_back, lane, token, after=DRAIN_EXPIRY),
        )

    def postpone(self, lane: Lane, token: str, job_id: str, after: float) -> None:
        """Give the lane back, to be gone on with `after` so many seconds, or at once if it was
        cancelled: its first job failed."""
        self._give_back(lane, token, job_id, after)

    def renew(self, leases: list[tuple[Lane, str, str]]) -> list[bool]:
        """Renew the leases of (lane, token, id of its first job), as far as they are still held.

        Returns:
            Whether each of the jobs was cancelled.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        answers = self._store.call_all(
            (
                self._renew,
                [self._keys.lane_lease(lane.name), self._keys.lanes, self._keys.job(job_id)],
                [token, self._lease, lane.name],
            )
            for lane, token, job_id in leases
        )
        return [bool(answer) for answer in answers]

    def claim(self, limit: int) -> list[Lane]:
        """Lanes that somebody must look after, at most `limit`: nobody else gets them for
        `DRAIN_EXPIRY` seconds."""
        arguments = [milliseconds(DRAIN_EXPIRY), limit]
        names = self._store.call(self._claim, [self._keys.lanes], arguments)
        return [lane for name in names if (lane := _lane_named(name)) is not None]

    def _give_back(
        self, lane: Lane, token: str, job_id: str, after: float, uncount: bool = False
    ) -> None:
        keys = [self._keys.lane_lease(lane.name), self._keys.lanes, self._keys.job(job_id)]
        arguments = [token, milliseconds(after), lane.name, int(uncount)]
        self._store.call(self._postpone, keys, arguments)

    def _lane(self, job: JobEnvelope) -> Lane:
        assert job.facts.group is not None
        return Lane(job.queue, job.facts.group)


class Drain:
    """Takes a lane's jobs, one after another; what it asks Redis for each is put together once."""

    def __init__(
        self, lane: Lane, ask: Callable[[str, int], Any], give_back: Callable[..., None]
    ) -> None:
        self._lane = lane
        self._ask = ask
        self._give_back = give_back

    def advance(self, *, done: str = "", stop: bool = False) -> Next:
        """Take the lane's lease or renew it, remove the job that is done, and begin the next.

        Args:
            done: id of the lane's first job, if it has ended.
            stop: begin no more, and give the lane back.
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
            log.error("%s waits, for its first job cannot be read: %s", self._lane.name, error)
            self._give_back(job_id, uncount=step == "run")
            return Next("refused")


def _lane_named(name: bytes) -> Lane | None:
    try:
        return Lane.parse(name.decode())
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


# An entry is `<sequence> <job id> <envelope>`.
_PUSH = f"""{NOW}
local first = redis.call('GET', KEYS[3])
if first == ARGV[1] then return {{first, 1}} end
if now > tonumber(ARGV[6]) then return false end
if first then return {{first, 0}} end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[3])
local sequence = redis.call('INCR', KEYS[4])
redis.call('RPUSH', KEYS[1], sequence .. ' ' .. ARGV[1] .. ' ' .. ARGV[2])
return {{ARGV[1], redis.call('ZADD', KEYS[2], 'NX', now + ARGV[5], ARGV[4])}}
"""

# The record of a job goes with the job: nobody hands it out again.
_ADVANCE = f"""{NOW}
local token, lease = ARGV[1], ARGV[2]
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= token then return {{'refused', 0, ''}} end

local waiting = redis.call('LRANGE', KEYS[1], 0, 1)
local entry, id, key
local function look(at)
  entry = at
  id = entry and (string.match(entry, '^%d+ (%S+) ') or '?')
  key = entry and ARGV[4] .. id
end
local function remove()
  redis.call('LPOP', KEYS[1])
  redis.call('DEL', key)
end

look(waiting[1])
if entry and id == ARGV[8] then
  remove()
  look(waiting[2])
end
local job
while entry do
  job = redis.call('HMGET', key, 'n', 'owner', 'cancelled', 'ended')
  if not job[4] then break end
  remove()
  look(redis.call('LINDEX', KEYS[1], 0))
end
if not entry then
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[3])
  return {{'empty', 0, ''}}
end
if ARGV[9] == '1' then
  redis.call('DEL', KEYS[2])
  redis.call('ZADD', KEYS[3], now + ARGV[7], ARGV[3])
  return {{'later', 0, ''}}
end
-- As in `queue_run.jobs.attempts`: a write that only expires comes first.
redis.call('PEXPIRE', key, ARGV[6])
if not holder or redis.call('PTTL', KEYS[2]) < lease / 2 then
  redis.call('SET', KEYS[2], token, 'PX', lease)
  redis.call('ZADD', KEYS[3], now + lease, ARGV[3])
end
local n = tonumber(job[1] or 0)
if job[2] == token then return {{'run', n, entry}} end
if job[3] then return {{'cancelled', n, entry}} end
if n >= tonumber(ARGV[5]) then return {{'exhausted', n, entry}} end
redis.call('HSET', key, 'n', n + 1, 'owner', token, 'until', now + lease)
redis.call('PEXPIRE', key, ARGV[6])
return {{'run', n + 1, entry}}
"""

# Until then the lease is held by nobody's token, so that no drain that comes early takes the lane.
_POSTPONE = f"""{NOW}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local known = redis.call('EXISTS', KEYS[3]) == 1
redis.call('HDEL', KEYS[3], 'owner', 'until')
if known and ARGV[4] == '1' then redis.call('HINCRBY', KEYS[3], 'n', -1) end
if redis.call('HEXISTS', KEYS[3], 'cancelled') == 1 then
  redis.call('DEL', KEYS[1])
  redis.call('ZADD', KEYS[2], now, ARGV[3])
  return 1
end
if known then redis.call('HSET', KEYS[3], 'lane', ARGV[3]) end
redis.call('SET', KEYS[1], 'postponed', 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[3])
return 1
"""

_RENEW = f"""{NOW}
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[3])
  if redis.call('HGET', KEYS[3], 'owner') == ARGV[1] then
    redis.call('HSET', KEYS[3], 'until', now + ARGV[2])
  end
end
return redis.call('HEXISTS', KEYS[3], 'cancelled')
"""

_CLAIM = f"""{NOW}
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, name in ipairs(names) do
  redis.call('ZREM', KEYS[1], name)
  redis.call('ZADD', KEYS[1], now + ARGV[1], name)
end
return names
"""

"""All that Redis knows of jobs, as the tests of its contract see it."""

import uuid
from collections.abc import Callable
from typing import Any, cast

import redis

from queue_run.jobs.attempt_records import Attempts
from queue_run.jobs.dead import DeadLetters
from queue_run.jobs.delays import Delays, DueJob
from queue_run.jobs.groups import Group, Groups, Next
from queue_run.jobs.stored import DeadLetter, JobFacts, StoredJob
from queue_run.settings import Settings
from queue_run.storage.scripts import Store
from tests.waiting import eventually

#: Seconds that no test lasts: a lease, a delay that does not end by itself.
LONG = 600.0
#: Seconds that a test can wait for.
SHORT = 0.05
#: Attempts that a job may have here.
MOST = 3


def a_job(queue: str = "mail", payload: object = None, **facts: Any) -> StoredJob:
    return StoredJob(id=uuid.uuid4().hex, queue=queue, payload=payload, facts=JobFacts(**facts))


def letter_of(job: StoredJob, **changes: Any) -> DeadLetter:
    fields: dict[str, Any] = {"attempts": MOST, "failed_at": 1.0, "error": "ValueError: no"}
    return DeadLetter(job=job, fifo=job.facts.group is not None, **fields | changes)


class Jobs:
    """The scripts over one Redis and one namespace."""

    def __init__(self, url: str, namespace: str) -> None:
        self.settings = Settings(redis_url=url, namespace=namespace)
        self.store = Store(self.settings, patience=10)
        self.keys = self.store.keys
        self.client = redis.Redis.from_url(url)
        self.attempts = self.attempts_with(LONG)
        self.groups = self.groups_with(LONG)
        self.delays = Delays(self.store)
        self.dead = DeadLetters(self.store)

    def attempts_with(self, lease: float) -> Attempts:
        return Attempts(self.store, lease=lease, visibility=LONG)

    def groups_with(self, lease: float) -> Groups:
        return Groups(self.store, lease=lease)

    def close(self) -> None:
        self.store.close()
        self.client.close()

    # What tests look at and wait for

    def begun(self, job: StoredJob, token: str = "one") -> StoredJob:
        """The job, whose attempt runs."""
        assert self.attempts.begin(job.id, token, most=MOST).verdict == "run"
        return job

    def verdict(self, job: StoredJob, token: str) -> str:
        return self.attempts.begin(job.id, token, most=MOST).verdict

    def due(self) -> list[DueJob]:
        """Delayed jobs, as soon as there are any."""
        return eventually(lambda: self.delays.take_due(10), what="a job that is due")

    def due_groups(self) -> list[Group]:
        """Lanes to look after, as soon as there are any."""
        return eventually(lambda: self.groups.take_due(10), what="a lane to look after")

    def waiting(self) -> list[str]:
        """Ids of the delayed jobs."""
        found = cast("list[bytes]", self.client.zrange(self.keys.delayed, 0, -1))
        kept = cast("list[bytes]", self.client.hkeys(self.keys.delayed_jobs))
        assert sorted(found) == sorted(kept)
        return [each.decode() for each in found]

    def wait_of(self, job: StoredJob) -> float:
        """Seconds until a delayed job is due."""
        score = self.client.zscore(self.keys.delayed, job.id)
        assert isinstance(score, float)
        return score / 1000 - self.now()

    def wait_of_lane(self, group: Group) -> float:
        """Seconds until somebody must look after the group."""
        score = self.client.zscore(self.keys.groups, group.name)
        assert isinstance(score, float)
        return score / 1000 - self.now()

    def now(self) -> float:
        seconds, microseconds = self.client.time()
        return seconds + microseconds / 1_000_000

    def record(self, job: StoredJob) -> dict[str, str]:
        found = cast("dict[bytes, bytes]", self.client.hgetall(self.keys.job(job.id)))
        return {name.decode(): value.decode() for name, value in found.items()}

    def expiry(self, key: str) -> float:
        """Seconds until a key is gone; negative for one that stays."""
        return self.client.pttl(key) / 1000

    def names(self) -> set[str]:
        """All keys, without the namespace."""
        prefix = f"{self.settings.namespace}:"
        return {key.decode().removeprefix(prefix) for key in self.client.scan_iter(f"{prefix}*")}

    def forget(self) -> None:
        """Lose all that Redis holds of this namespace, as an emptied Redis does."""
        for key in self.client.scan_iter(f"{self.settings.namespace}:*"):
            self.client.delete(key)

    # Groups

    def push(self, group: str, *payloads: object, queue: str = "fifo") -> Group:
        for payload in payloads:
            self.groups.push(a_job(queue, payload, group=group), uuid.uuid4().hex)
        return Group(queue, group)

    def advance(self, group: Group, token: str = "drain", **options: Any) -> Next:
        return self.groups.drain(group, token, most=MOST).advance(**options)

    def drained(self, group: Group, run: Callable[[Next], None]) -> Next:
        """Run a group to its end; what was said there."""
        found = self.advance(group)
        while found.job is not None:
            run(found)
            found = self.advance(group, done=found.job.id)
        return found

    def payloads(self, group: Group) -> list[Any]:
        """Drain the group; what its jobs carried."""
        seen: list[Any] = []

        def run(found: Next) -> None:
            assert found.job is not None
            seen.append(found.job.payload)

        assert self.drained(group, run).step == "empty"
        return seen

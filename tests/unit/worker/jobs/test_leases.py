"""Keeping leases, with a real Redis: renewed while attempts run, and no longer."""

import math
import threading
import time
from collections.abc import Iterator

import pytest

from queue_run.application.requests import Signal
from queue_run.jobs.attempt_records import Attempts
from queue_run.jobs.groups import Group, Groups
from queue_run.jobs.stored import JobFacts, StoredJob
from queue_run.settings import Settings
from queue_run.storage.scripts import Store
from tests.processes import RedisServer
from tests.waiting import DEADLINE, eventually
from worker.jobs import leases
from worker.jobs.leases import Lease, LeaseKeeper

#: Seconds that a lease lasts: renewals come late on a machine that stalls.
LEASE = 6.0
#: Seconds between two renewals.
INTERVAL = min(leases.LONGEST_INTERVAL, LEASE / 3)


class Here:
    """A keeper of leases, and what Redis knows of the attempts."""

    def __init__(self, settings: Settings, lease: float = LEASE) -> None:
        self.store = Store(settings, patience=DEADLINE)
        self.attempts = Attempts(self.store, lease=lease, visibility=600)
        self.groups = Groups(self.store, lease=lease)
        self.stopping = False
        self.keeper = LeaseKeeper(
            self.attempts, self.groups, lease=lease, stopping=lambda: self.stopping
        )
        self.client = self.store.client

    def begin(self, job_id: str = "job-1", *, timeout: float = DEADLINE) -> Lease:
        assert self.attempts.begin(job_id, "mine", most=9).verdict == "run"
        return Lease(job_id=job_id, token="mine", timeout=timeout, signal=Signal())

    def until(self, job_id: str = "job-1") -> int:
        """When the lease ends, in milliseconds of Redis' clock."""
        return int(self.client.hget(self.store.keys.job(job_id), "until") or 0)

    def comes_back(self, job_id: str = "job-1") -> bool:
        """Whether another worker may begin it."""
        return self.attempts.begin(job_id, "another", most=9).verdict == "run"

    def renewed(self, times: int, job_id: str = "job-1") -> None:
        for _ in range(times):
            before = self.until(job_id)
            eventually(lambda: self.until(job_id) > before, what="a renewal")  # noqa: B023


@pytest.fixture
def here(redis_server: RedisServer, namespace: str) -> Iterator[Here]:
    here = Here(Settings(redis_url=redis_server.url, namespace=namespace))
    yield here
    here.store.close()


@pytest.fixture
def brief(redis_server: RedisServer, namespace: str) -> Iterator[Here]:
    """Where leases are to end."""
    here = Here(Settings(redis_url=redis_server.url, namespace=namespace), lease=0.5)
    yield here
    here.store.close()


def test_a_lease_is_renewed_while_the_attempt_runs(here: Here) -> None:
    lease = here.begin()
    with here.keeper.holding(lease):
        # Longer than it lasts.
        here.renewed(math.ceil(LEASE / INTERVAL) + 1)
        assert not here.comes_back()
    assert not lease.signal.is_set()


def test_a_lease_that_is_held_no_more_ends(brief: Here) -> None:
    with brief.keeper.holding(brief.begin()):
        pass
    eventually(brief.comes_back, what="the end of the lease")


def test_a_lease_that_another_attempt_has_taken_over_is_left_to_it(here: Here) -> None:
    lease = here.begin()
    here.client.hset(here.store.keys.job("job-1"), "owner", "another")
    other = here.begin("job-2")
    with here.keeper.holding(lease), here.keeper.holding(other):
        before = here.until()
        here.renewed(2, "job-2")
        assert here.until() == before


def test_all_leases_of_a_process_are_renewed_by_one_thread(here: Here) -> None:
    def keepers() -> int:
        return sum(each.name == "queue-run-leases" for each in threading.enumerate())

    before = keepers()
    with here.keeper.holding(here.begin("a")), here.keeper.holding(here.begin("b")):
        here.renewed(1, "a")
        here.renewed(1, "b")
        assert keepers() == before + 1
    with here.keeper.holding(here.begin("c")):
        here.renewed(1, "c")
        assert keepers() == before + 1


def test_jobs_that_end_at_once_wake_the_thread_once(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[object] = []
    wake = here.keeper._wake
    monkeypatch.setattr(here.keeper, "_wake", lambda: woken.append(wake()))
    lease = here.begin()
    before = time.monotonic()
    for _ in range(200):
        with here.keeper.holding(lease):
            pass
    # The thread looks again after some time, and waits when there is nothing to renew.
    assert len(woken) <= 2 + (time.monotonic() - before) / INTERVAL


def test_a_thread_that_waits_is_woken_by_the_next_lease(here: Here) -> None:
    with here.keeper.holding(here.begin()):
        pass
    eventually(lambda: here.keeper._idle, what="a thread that waits")
    with here.keeper.holding(here.begin("job-2")):
        here.renewed(2, "job-2")


def test_an_attempt_is_told_by_its_signal_when_its_job_is_cancelled(here: Here) -> None:
    lease, other = here.begin(), here.begin("job-2")
    with here.keeper.holding(lease), here.keeper.holding(other):
        here.attempts.cancel("job-1")
        assert lease.signal.wait(DEADLINE)
    assert lease.cancelled
    assert not other.cancelled
    assert not other.signal.is_set()


def test_an_attempt_is_told_by_its_signal_when_its_worker_is_about_to_end(here: Here) -> None:
    lease = here.begin()
    with here.keeper.holding(lease):
        here.stopping = True
        assert lease.signal.wait(DEADLINE)
        assert not lease.cancelled
        # It may still take its time.
        here.renewed(1)


def test_an_attempt_far_past_its_timeout_is_given_up(
    brief: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "OVERTIME", 0.05)
    with brief.keeper.holding(brief.begin(timeout=0.05)):
        eventually(brief.comes_back, what="the end of its lease")


def test_the_lease_of_a_group_is_renewed_and_its_job_may_be_cancelled(here: Here) -> None:
    group = Group("mail", "g")
    for job_id in ("a", "b"):
        job = StoredJob(id=job_id, queue="mail", payload=job_id, facts=JobFacts(group="g"))
        here.groups.push(job, dedupe=job_id)
    assert here.groups.drain(group, "mine", most=9).advance().step == "run"
    lease = Lease(job_id="a", token="mine", group=group, timeout=DEADLINE, signal=Signal())
    key = here.store.keys.group_lease(group.name)

    def left() -> int:
        return int(here.client.pttl(key))

    # A plain job beside it: each hears of its own.
    with here.keeper.holding(lease), here.keeper.holding(here.begin()):
        for _ in range(3):
            eventually(lambda: left() < LEASE * 1000 - 300, what="some time", deadline=DEADLINE)
            eventually(lambda: left() > LEASE * 1000 - 300, what="a renewal", deadline=DEADLINE)
        assert here.groups.drain(group, "another", most=9).advance().step == "refused"
        here.attempts.cancel("a")
        assert lease.signal.wait(DEADLINE)
    assert lease.cancelled


def test_a_redis_that_is_away_for_a_while_ends_no_lease(
    own_redis: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = Here(Settings(redis_url=own_redis.url, namespace=namespace, publish_timeout=1))
    lease = here.begin()
    with here.keeper.holding(lease):
        here.renewed(1)
        own_redis.kill()
        eventually(lambda: "1 leases could not be renewed" in caplog.text, what="the warning")
        own_redis.start()
        here.renewed(1)
    assert not lease.signal.is_set()
    here.store.close()

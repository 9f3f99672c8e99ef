"""What Redis knows of jobs while it is full: jobs begin, end and come back, and nothing is added.

The embedded Redis in Python is never full.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from queue_run.errors import JobStoreUnavailable
from queue_run.jobs.groups import Group
from queue_run.storage.scripts import Store
from tests.contract.jobs import LONG, SHORT, Jobs, a_job, letter_of
from tests.processes import RedisServer


class Here(Jobs):
    """The scripts over a Redis that may become full."""

    def fill(self) -> None:
        self.client.config_set("maxmemory", "1")
        with pytest.raises(ResponseError, match="maxmemory"):
            self.client.set("anything", "1")

    def empty(self) -> None:
        self.client.config_set("maxmemory", "0")

    def contents(self) -> dict[bytes, Any]:
        """All keys, as Redis would move them to another one."""
        return {key: self.client.dump(key) for key in self.client.scan_iter()}


@pytest.fixture
def here(own_redis: RedisServer, namespace: str) -> Iterator[Here]:
    here = Here(own_redis.url, namespace)
    yield here
    here.close()


def test_a_job_runs_from_its_beginning_to_its_end(here: Here) -> None:
    job = a_job()
    here.fill()
    here.begun(job)
    assert here.verdict(job, "two") == "busy"
    assert here.attempts.renew([(job.id, "one")]) == [False]
    assert here.attempts.end(job.id, "one", "finished")
    assert here.verdict(job, "three") == "ended"


def test_a_job_fails_waits_and_is_handed_out_for_its_retry(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.jobs.delays.TAKEN_FOR", LONG)
    job = here.begun(a_job())
    here.fill()
    assert here.attempts.retry(job, "one", after=SHORT)
    [due_job] = here.due()
    assert due_job.job == job
    assert here.delays.take_due(10) == []
    here.delays.done(due_job)
    assert here.waiting() == []
    assert here.verdict(job, "two") == "run"


def test_a_job_that_came_again_while_it_runs_waits(here: Here) -> None:
    job = a_job()
    here.fill()
    here.delays.add(job, LONG)
    assert here.waiting() == [job.id]


def test_a_job_is_parked_and_its_letter_is_retried_or_dropped(here: Here) -> None:
    for_retry, to_drop = here.begun(a_job()), here.begun(a_job())
    here.fill()
    for job in (for_retry, to_drop):
        assert here.attempts.park(letter_of(job), "one")
    assert here.dead.revive(letter_of(for_retry), for_retry)
    assert here.dead.drop(to_drop.id)
    assert here.waiting() == [for_retry.id]


def test_the_letter_of_a_group_goes_back_to_its_group(here: Here) -> None:
    job = here.begun(a_job("fifo", 1, group="g"))
    here.fill()
    assert here.attempts.park(letter_of(job), "one")
    assert here.dead.revive(letter_of(job), job)
    assert here.payloads(Group("fifo", "g")) == [1]


def test_a_job_is_cancelled_and_its_process_lost(here: Here) -> None:
    job = here.begun(a_job(), "host:1:token")
    here.fill()
    assert here.attempts.cancel(job.id)
    assert here.attempts.renew([(job.id, "host:1:token")]) == [True]
    here.attempts.release(job.id, "host:1:")
    assert here.verdict(job, "two") == "cancelled"


def test_a_job_whose_push_has_failed_is_withdrawn(here: Here) -> None:
    job = a_job()
    here.fill()
    assert here.attempts.withdraw(job.id)
    assert here.verdict(job, "one") == "withdrawn"


def test_a_group_is_drained_given_back_and_taken_again(here: Here) -> None:
    group = here.push("g", 1, 2, 3)
    here.fill()
    first = here.advance(group)
    assert first.job is not None
    assert here.groups.renew([(group, "drain", first.job.id)]) == [False]
    here.groups.postpone(group, "drain", first.job.id, SHORT)
    assert here.due_groups() == [group]
    second = here.advance(group, "other drain")
    assert second.job is not None
    assert (second.job.payload, second.attempt) == (1, 2)
    assert here.advance(group, "other drain", done=second.job.id, stop=True).step == "later"
    assert here.payloads(group) == [2, 3]


def test_a_push_to_a_group_is_refused_whole_and_told(here: Here) -> None:
    impatient = Store(here.settings, patience=SHORT)
    here.push("g", 1)
    here.fill()
    before = here.contents()
    groups = here.groups_with(LONG)
    groups._store = impatient
    with pytest.raises(JobStoreUnavailable, match=r"^Redis is full, raise its maxmemory"):
        groups.push(a_job("fifo", 2, group="g"), "2")
    assert here.contents() == before
    impatient.close()
    here.empty()
    assert here.payloads(here.push("g", 3)) == [1, 3]

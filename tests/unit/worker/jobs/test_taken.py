"""How a job is given back that was taken from the broker, or from its group."""

import pytest

from queue_run import Signal
from queue_run.errors import InvalidPush
from tests.unit.worker.building import queue
from tests.unit.worker.jobs.test_attempts import JOB, LANE, Here, here, nothing
from worker.jobs.taken import FromBroker, FromGroup, lease_of

__all__ = ["here"]


def from_broker(here: Here, token: str = "t") -> FromBroker:
    begun = here.runtime.attempts.begin(JOB.id, token, most=3)
    assert begun.verdict == "run"
    return FromBroker(here.runtime.attempts, JOB, token, begun.verdict, begun.attempt)


def from_group(here: Here) -> FromGroup:
    here.push("first", "second")
    found = here.runtime.groups.drain(LANE, "t", most=3).advance()
    assert found.job is not None
    groups = here.runtime.groups
    return FromGroup(groups, found.job, "t", "run", found.attempt, LANE, found.sequence)


def test_the_end_of_a_job_of_the_broker_is_written(here: Here) -> None:
    from_broker(here).end("finished")
    assert here.ended() == "finished"


def test_the_retry_of_a_job_of_the_broker_waits(here: Here) -> None:
    from_broker(here).retry(60.0)
    assert here.waits()


def test_a_retry_that_another_worker_has_overtaken_is_told(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    taken = from_broker(here)
    here.runtime.attempts.release(JOB.id, "t")
    from_broker(here, "another")
    taken.retry(60.0)
    assert not here.waits()
    assert "is run by another worker already" in caplog.text


def test_a_job_of_the_broker_is_checked_against_its_queue(here: Here) -> None:
    check = from_broker(here).check(queue(nothing, fifo=True))
    with pytest.raises(InvalidPush):
        check()


def test_a_job_of_a_group_stays_the_first_while_it_waits(here: Here) -> None:
    taken = from_group(here)
    taken.retry(60.0)
    groups = here.runtime.groups
    assert groups.drain(LANE, "another", most=3).advance().step == "refused"
    assert not here.waits()


def test_the_end_of_a_job_of_a_group_is_written_by_the_next_step(here: Here) -> None:
    taken = from_group(here)
    taken.end("finished")
    found = here.runtime.groups.drain(LANE, "t", most=3).advance(done=taken.job.id)
    assert found.job is not None
    assert (found.job.id, found.sequence) == ("second", taken.sequence + 1)


def test_a_lease_is_on_the_group_of_a_job_that_has_one(here: Here) -> None:
    handler, signal = queue(nothing, timeout=5), Signal()
    assert lease_of(from_broker(here), handler, signal).group is None
    lease = lease_of(from_group(here), handler, signal)
    assert (lease.group, lease.token, lease.timeout, lease.signal) == (LANE, "t", 5, signal)

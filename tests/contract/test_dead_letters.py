"""What the dead letters promise, on every Redis they lie in."""

import logging

import msgspec
import pytest

from queue_run.errors import InvalidEnvelope
from queue_run.jobs.dead import PAGE
from queue_run.jobs.groups import Group, Next
from queue_run.jobs.stored import DeadLetter, StoredJob
from tests.contract.jobs import MOST, Jobs, a_job, letter_of


def parked(jobs: Jobs, job: StoredJob, at: float | None = None) -> DeadLetter:
    letter = letter_of(job)
    assert jobs.attempts.park(letter, "one")
    if at is not None:
        jobs.client.zadd(jobs.keys.dead_index, {job.id: at})
    return letter


def spoil(jobs: Jobs, letter: DeadLetter) -> None:
    jobs.client.hset(jobs.keys.dead, letter.job.id, b"\x07from tomorrow")


def again(letter: DeadLetter) -> StoredJob:
    """The job as `dead_letters.retry` makes it."""
    facts = msgspec.structs.replace(letter.job.facts, revived=letter.job.facts.revived + 1)
    return msgspec.structs.replace(letter.job, facts=facts)


def test_the_newest_letters_come_first(jobs: Jobs) -> None:
    letters = [parked(jobs, a_job(payload=n), at=n) for n in range(4)]
    assert jobs.dead.newest(limit=10) == letters[::-1]
    assert jobs.dead.newest(limit=2) == letters[:1:-1]
    assert jobs.dead.newest(limit=0) == []


def test_without_letters_there_are_none(jobs: Jobs) -> None:
    assert jobs.dead.newest(limit=10) == []
    assert jobs.dead.get("a") is None


def test_the_letters_of_one_queue_are_found_behind_those_of_others(jobs: Jobs) -> None:
    wanted = [parked(jobs, a_job("rare"), at=n) for n in range(2)]
    for number in range(PAGE + 5):
        parked(jobs, a_job("common"), at=10 + number)
    assert jobs.dead.newest("rare", limit=10) == wanted[::-1]
    assert len(jobs.dead.newest("common", limit=PAGE + 1)) == PAGE + 1
    assert len(jobs.dead.newest(limit=1000)) == PAGE + 7
    assert jobs.dead.newest("none", limit=10) == []


def test_a_letter_is_found_by_its_jobs_id(jobs: Jobs) -> None:
    job = a_job(payload=b"\x00\xff")
    letter = letter_of(job, traceback="Traceback …", sequence=7, error="ValueError: ü")
    jobs.attempts.park(letter, "one")
    assert jobs.dead.get(job.id) == letter


def test_a_letter_that_is_dropped_is_gone(jobs: Jobs) -> None:
    one, two = parked(jobs, a_job()), parked(jobs, a_job())
    assert jobs.dead.drop(one.job.id)
    assert jobs.dead.newest(limit=10) == [two]
    assert jobs.dead.get(one.job.id) is None


def test_a_letter_that_is_not_there_cannot_be_dropped(jobs: Jobs) -> None:
    assert not jobs.dead.drop("a")
    assert jobs.names() == set()


def test_a_job_whose_letter_was_dropped_does_not_run_when_the_broker_has_it_still(
    jobs: Jobs,
) -> None:
    job = jobs.begun(a_job())
    parked(jobs, job)
    before = jobs.expiry(jobs.keys.job(job.id))
    jobs.dead.drop(job.id)
    assert jobs.verdict(job, "two") == "ended"
    assert jobs.expiry(jobs.keys.job(job.id)) > before - 60


# Back to life


def test_a_job_that_is_taken_back_comes_at_once_with_all_its_attempts(jobs: Jobs) -> None:
    job = jobs.begun(a_job(payload={"a": 1}, user={"id": "ann"}))
    letter = parked(jobs, job)
    assert jobs.dead.revive(letter, again(letter))
    assert jobs.dead.newest(limit=10) == []
    [due_job] = jobs.delays.take_due(10)
    assert due_job.job == again(letter)
    assert jobs.attempts.begin(job.id, "two", most=MOST).attempt == 1


def test_a_job_of_a_group_is_taken_back_as_its_last(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2)
    first = jobs.advance(group, "one")
    assert first.job is not None
    letter = parked(jobs, first.job)
    assert jobs.dead.revive(letter, again(letter))
    second = jobs.advance(group, "one", done=first.job.id)
    assert second.job is not None
    assert second.job.payload == 2
    last = jobs.advance(group, "one", done=second.job.id)
    assert (last.step, last.job, last.attempt, last.sequence) == ("run", again(letter), 1, 3)
    assert jobs.advance(group, "one", done=letter.job.id) == Next("empty")


def test_a_group_that_gets_a_job_back_is_looked_after_at_once(jobs: Jobs) -> None:
    letter = parked(jobs, a_job("fifo", 1, group="g"))
    jobs.dead.revive(letter, again(letter))
    assert jobs.groups.take_due(10) == [Group("fifo", "g")]
    assert jobs.payloads(Group("fifo", "g")) == [1]


@pytest.mark.parametrize("group", [None, "g"])
def test_a_letter_is_taken_back_once(jobs: Jobs, group: str | None) -> None:
    letter = parked(jobs, a_job(group=group))
    assert jobs.dead.revive(letter, again(letter))
    assert not jobs.dead.revive(letter, again(letter))
    assert not jobs.dead.drop(letter.job.id)


@pytest.mark.parametrize("group", [None, "g"])
def test_a_letter_that_was_dropped_is_not_taken_back(jobs: Jobs, group: str | None) -> None:
    letter = parked(jobs, a_job(group=group))
    jobs.dead.drop(letter.job.id)
    assert not jobs.dead.revive(letter, again(letter))
    assert jobs.delays.take_due(10) == []
    assert jobs.groups.take_due(10) == []


@pytest.mark.parametrize("group", [None, "g"])
def test_changes_whose_answer_was_lost_are_repeated_with_the_same_answer(
    jobs: Jobs, group: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A token is made for each call, not for each time that it is sent.
    monkeypatch.setattr("queue_run.jobs.dead._new_token", lambda: "the same call")
    letter, other = parked(jobs, a_job(group=group)), parked(jobs, a_job())
    assert jobs.dead.revive(letter, again(letter))
    assert jobs.dead.revive(letter, again(letter))
    if group is None:
        assert jobs.waiting() == [letter.job.id]
    else:
        assert jobs.client.llen(jobs.keys.group(f"mail:{group}")) == 1
    assert jobs.dead.drop(other.job.id)
    assert jobs.dead.drop(other.job.id)


def test_a_job_fails_lives_and_fails_again(jobs: Jobs) -> None:
    letter = parked(jobs, jobs.begun(a_job()))
    for life in range(3):
        job = again(letter)
        assert jobs.dead.revive(letter, job)
        [due_job] = jobs.delays.take_due(10)
        jobs.delays.done(due_job)
        assert jobs.attempts.begin(job.id, f"life {life}", most=MOST).attempt == 1
        letter = letter_of(job)
        assert jobs.attempts.park(letter, f"life {life}")
    assert jobs.dead.newest(limit=10) == [letter]
    assert letter.job.facts.revived == 3


# What cannot be read


def test_letters_that_cannot_be_read_are_logged_and_hide_no_others(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    oldest = parked(jobs, a_job(), at=0)
    unreadable = [parked(jobs, a_job(), at=1 + n) for n in range(PAGE)]
    for letter in unreadable:
        spoil(jobs, letter)
    with caplog.at_level(logging.ERROR):
        assert jobs.dead.newest(limit=10) == [oldest]
    assert caplog.text.count("a dead letter cannot be read") == PAGE
    assert jobs.client.hlen(jobs.keys.dead) == PAGE + 1


def test_a_letter_that_cannot_be_read_can_be_dropped(jobs: Jobs) -> None:
    letter = parked(jobs, a_job())
    spoil(jobs, letter)
    with pytest.raises(InvalidEnvelope, match="version"):
        jobs.dead.get(letter.job.id)
    assert jobs.dead.drop(letter.job.id)
    assert jobs.dead.get(letter.job.id) is None

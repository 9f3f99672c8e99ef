"""What Redis knows of jobs, on every Redis it runs on: attempts and delays."""

import logging
import threading

import pytest

from queue_run.jobs.attempt_records import CANCEL_EXPIRY, LIVING_EXPIRY, Beginning
from queue_run.jobs.delays import TAKEN_FOR
from queue_run.jobs.stored import JobFacts, StoredJob
from tests.contract.jobs import LONG, MOST, SHORT, Jobs, a_job, letter_of
from tests.waiting import eventually

# How an attempt begins


def test_a_new_job_runs_as_its_first_attempt(jobs: Jobs) -> None:
    found = jobs.attempts.begin("a", "one", most=MOST)
    assert found == Beginning(verdict="run", attempt=1)


def test_attempts_are_counted_to_the_last_one(jobs: Jobs) -> None:
    job = a_job()
    for attempt in range(1, MOST + 1):
        found = jobs.attempts.begin(job.id, f"token {attempt}", most=MOST)
        assert (found.verdict, found.attempt) == ("run", attempt)
        assert jobs.attempts.retry(job, f"token {attempt}", after=LONG)
    found = jobs.attempts.begin(job.id, "one more", most=MOST)
    assert (found.verdict, found.attempt) == ("exhausted", MOST)


def test_a_job_that_runs_elsewhere_comes_again_when_its_lease_may_have_ended(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    found = jobs.attempts.begin(job.id, "two", most=MOST)
    assert (found.verdict, found.attempt) == ("busy", 1)
    assert LONG - 60 < found.after <= LONG


def test_a_job_that_has_ended_does_not_run_again(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.attempts.end(job.id, "one", "finished")
    assert jobs.verdict(job, "two") == "ended"


def test_a_job_that_was_cancelled_before_it_began_does_not_run(jobs: Jobs) -> None:
    job = a_job()
    assert jobs.attempts.cancel(job.id)
    assert jobs.verdict(job, "one") == "cancelled"
    assert jobs.attempts.end(job.id, "one", "cancelled")
    assert jobs.verdict(job, "two") == "ended"


def test_a_job_that_runs_is_told_of_its_cancellation_and_no_other_is(jobs: Jobs) -> None:
    job, other = jobs.begun(a_job()), jobs.begun(a_job())
    leases = [(job.id, "one"), (other.id, "one")]
    assert jobs.attempts.renew(leases) == [False, False]
    assert jobs.attempts.cancel(job.id)
    assert jobs.attempts.renew(leases) == [True, False]


def test_a_cancelled_job_that_runs_is_busy_elsewhere_until_it_has_stopped(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.attempts.cancel(job.id)
    assert jobs.verdict(job, "two") == "busy"


def test_a_job_that_has_ended_cannot_be_cancelled(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.attempts.end(job.id, "one", "finished")
    assert not jobs.attempts.cancel(job.id)
    assert jobs.record(job) == {"n": "1", "ended": "finished", "by": "one"}


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_job_that_was_withdrawn_before_it_began_never_runs(jobs: Jobs, cancelled: bool) -> None:
    job = a_job()
    if cancelled:
        jobs.attempts.cancel(job.id)
    for _ in range(2):
        assert jobs.attempts.withdraw(job.id)
    assert jobs.verdict(job, "one") == "withdrawn"
    assert not jobs.attempts.cancel(job.id)
    assert LIVING_EXPIRY < jobs.expiry(jobs.keys.job(job.id)) <= CANCEL_EXPIRY


def test_a_job_that_has_begun_or_ended_cannot_be_withdrawn(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    assert not jobs.attempts.withdraw(job.id)
    jobs.attempts.end(job.id, "one", "finished")
    assert not jobs.attempts.withdraw(job.id)
    assert jobs.verdict(job, "two") == "ended"


# Leases


def test_a_lease_that_nobody_renews_ends_and_the_job_runs_elsewhere(jobs: Jobs) -> None:
    job = a_job()
    short = jobs.attempts_with(SHORT)
    assert short.begin(job.id, "one", most=MOST).verdict == "run"
    eventually(lambda: jobs.verdict(job, "two") == "run", what="the end of the lease")
    assert jobs.record(job)["n"] == "2"


def test_a_lease_that_is_renewed_goes_on(jobs: Jobs) -> None:
    job = a_job()
    assert jobs.attempts_with(SHORT).begin(job.id, "one", most=MOST).verdict == "run"
    jobs.attempts.renew([(job.id, "one")])
    until = float(jobs.record(job)["until"])
    assert until / 1000 - jobs.now() > LONG - 60


def test_a_lease_that_another_attempt_holds_is_not_renewed(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    before = jobs.record(job)
    jobs.attempts_with(2 * LONG).renew([(job.id, "two")])
    assert jobs.record(job) == before


def test_renewing_no_lease_asks_for_nothing(jobs: Jobs) -> None:
    assert jobs.attempts.renew([]) == []


def test_the_lease_of_a_process_that_has_died_ends_at_once(jobs: Jobs) -> None:
    job = jobs.begun(a_job(), "host:12:abc")
    jobs.attempts.release(job.id, "host:1:")
    assert jobs.verdict(job, "host:13:def") == "busy"
    jobs.attempts.release(job.id, "host:12:")
    assert jobs.attempts.begin(job.id, "host:13:def", most=MOST).attempt == 2


def test_a_job_whose_last_attempt_was_lost_is_exhausted(jobs: Jobs) -> None:
    job = a_job()
    assert jobs.attempts.begin(job.id, "host:1:a", most=1).verdict == "run"
    jobs.attempts.release(job.id, "host:1:")
    found = jobs.attempts.begin(job.id, "host:2:b", most=1)
    assert (found.verdict, found.attempt) == ("exhausted", 1)


def test_of_workers_that_begin_at_once_one_runs_the_job(jobs: Jobs) -> None:
    job = a_job()
    verdicts: list[str] = []
    threads = [
        threading.Thread(target=lambda token=str(n): verdicts.append(jobs.verdict(job, token)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == ["busy"] * 7 + ["run"]


# A call whose answer was lost is repeated


def test_a_beginning_that_is_repeated_counts_once(jobs: Jobs) -> None:
    job = a_job()
    first = jobs.attempts.begin(job.id, "one", most=MOST)
    assert jobs.attempts.begin(job.id, "one", most=MOST) == first
    assert jobs.record(job)["n"] == "1"


def test_a_last_attempt_whose_beginning_is_repeated_runs(jobs: Jobs) -> None:
    job = a_job()
    first = jobs.attempts.begin(job.id, "one", most=1)
    assert jobs.attempts.begin(job.id, "one", most=1) == first


def test_an_end_that_is_repeated_is_said_again(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    assert jobs.attempts.end(job.id, "one", "finished")
    before = jobs.record(job)
    assert jobs.attempts.end(job.id, "one", "finished")
    assert jobs.record(job) == before


def test_a_retry_that_is_repeated_waits_once(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    assert jobs.attempts.retry(job, "one", after=LONG)
    assert jobs.attempts.retry(job, "one", after=LONG)
    assert jobs.waiting() == [job.id]
    assert jobs.record(job) == {"n": "1"}


def test_a_dead_letter_that_is_repeated_lies_there_once(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    assert jobs.attempts.park(letter_of(job), "one")
    assert jobs.attempts.park(letter_of(job), "one")
    assert jobs.dead.newest(limit=10) == [letter_of(job)]


def test_a_cancellation_that_is_repeated_is_said_again(jobs: Jobs) -> None:
    assert jobs.attempts.cancel("a")
    assert jobs.attempts.cancel("a")


# An attempt that has lost its lease


@pytest.fixture
def taken_over(jobs: Jobs) -> StoredJob:
    """A job whose first attempt, `one`, was given up; `two` runs it."""
    job = a_job()
    assert jobs.attempts_with(SHORT).begin(job.id, "one", most=MOST).verdict == "run"
    eventually(lambda: jobs.verdict(job, "two") == "run", what="the end of the lease")
    return job


def test_it_gets_no_retry(jobs: Jobs, taken_over: StoredJob) -> None:
    assert not jobs.attempts.retry(taken_over, "one", after=SHORT)
    assert jobs.waiting() == []
    assert jobs.verdict(taken_over, "three") == "busy"


def test_it_does_not_park_the_job(jobs: Jobs, taken_over: StoredJob) -> None:
    assert not jobs.attempts.park(letter_of(taken_over), "one")
    assert jobs.dead.newest(limit=10) == []
    assert jobs.verdict(taken_over, "three") == "busy"


def test_its_success_ends_the_job_for_the_other_too(jobs: Jobs, taken_over: StoredJob) -> None:
    assert jobs.attempts.end(taken_over.id, "one", "finished")
    assert not jobs.attempts.end(taken_over.id, "two", "failed")
    assert not jobs.attempts.retry(taken_over, "two", after=SHORT)
    assert not jobs.attempts.park(letter_of(taken_over), "two")
    assert jobs.record(taken_over)["ended"] == "finished"
    assert jobs.waiting() == []
    assert jobs.dead.newest(limit=10) == []


def test_its_success_ends_the_wait_for_another_attempt(jobs: Jobs, taken_over: StoredJob) -> None:
    # The copy that waits would come when the end is forgotten, and run once more.
    assert jobs.attempts.retry(taken_over, "two", after=LONG)
    assert jobs.attempts.end(taken_over.id, "one", "finished")
    assert jobs.waiting() == []


def test_a_parked_job_waits_for_nothing(jobs: Jobs, taken_over: StoredJob) -> None:
    jobs.delays.add(taken_over, LONG)
    assert jobs.attempts.park(letter_of(taken_over), "two")
    assert jobs.waiting() == []


# Retries


def test_a_retry_comes_with_all_that_the_job_carries(jobs: Jobs) -> None:
    facts = JobFacts(queued_at=1.5, user={"id": "ann"}, params={"a": "ü"}, revived=2)
    job = StoredJob(id="a", queue="mail", payload={"n": [1, None]}, facts=facts)
    jobs.attempts.retry(jobs.begun(job), "one", after=SHORT)
    [due_job] = jobs.due()
    assert due_job.job == job


def test_a_retry_waits_for_its_time(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.attempts.retry(job, "one", after=LONG)
    assert jobs.delays.take_due(10) == []
    assert LONG - 60 < jobs.wait_of(job) <= LONG


def test_a_cancelled_job_that_waits_comes_at_once_to_be_ended(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.attempts.retry(job, "one", after=LONG)
    assert jobs.attempts.cancel(job.id)
    assert [each.job for each in jobs.delays.take_due(10)] == [job]
    assert jobs.verdict(job, "two") == "cancelled"


def test_a_job_that_was_cancelled_as_it_failed_comes_at_once_to_be_ended(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.attempts.cancel(job.id)
    jobs.attempts.retry(job, "one", after=LONG)
    assert [each.job for each in jobs.delays.take_due(10)] == [job]
    assert jobs.verdict(job, "two") == "cancelled"


def test_cancelling_a_job_that_waits_nowhere_delays_nothing(jobs: Jobs) -> None:
    jobs.attempts.cancel("a")
    assert jobs.waiting() == []


# Redis has lost all that it held


def test_a_job_whose_record_is_lost_still_ends(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.forget()
    assert jobs.attempts.renew([(job.id, "one")]) == [False]
    assert jobs.attempts.end(job.id, "one", "finished")
    assert jobs.verdict(job, "two") == "ended"


def test_a_job_whose_record_is_lost_still_gets_its_retry(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.forget()
    assert jobs.attempts.retry(job, "one", after=SHORT)
    assert [each.job for each in jobs.due()] == [job]
    assert jobs.verdict(job, "two") == "run"


def test_a_job_whose_record_is_lost_is_still_parked(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.forget()
    assert jobs.attempts.park(letter_of(job), "one")
    assert jobs.dead.get(job.id) == letter_of(job)


def test_a_job_whose_record_is_lost_and_that_the_broker_still_has_runs(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.forget()
    assert jobs.attempts.begin(job.id, "two", most=MOST).attempt == 1
    assert not jobs.attempts.retry(job, "one", after=SHORT)


# Nothing stays for ever


def test_what_is_known_of_a_job_is_forgotten_in_the_end(jobs: Jobs) -> None:
    running, waiting, ended, parked, cancelled = [a_job() for _ in range(5)]
    for job in (running, waiting, ended, parked):
        jobs.begun(job)
    jobs.attempts.retry(waiting, "one", after=LONG)
    jobs.attempts.end(ended.id, "one", "finished")
    jobs.attempts.park(letter_of(parked), "one")
    jobs.attempts.cancel(cancelled.id)
    for job, most in (
        (running, LIVING_EXPIRY),
        (waiting, LIVING_EXPIRY + LONG),
        (ended, 2 * LONG),
        (parked, 2 * LONG),
        (cancelled, CANCEL_EXPIRY),
    ):
        assert most - 60 < jobs.expiry(jobs.keys.job(job.id)) <= most


def test_a_cancellation_outlives_the_wait_for_a_retry(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.attempts.cancel(job.id)
    jobs.attempts.retry(job, "one", after=SHORT)
    assert jobs.expiry(jobs.keys.job(job.id)) > CANCEL_EXPIRY - 60


def test_a_job_that_finished_leaves_only_its_end(jobs: Jobs) -> None:
    job = jobs.begun(a_job())
    jobs.attempts.retry(job, "one", after=SHORT)
    [due_job] = jobs.due()
    jobs.delays.done(due_job)
    jobs.attempts.end(jobs.begun(job, "two").id, "two", "finished")
    assert jobs.names() == {f"job:{job.id}"}
    assert jobs.record(job) == {"n": "2", "ended": "finished", "by": "two"}


# Delays


def test_a_job_that_is_due_is_claimed_by_one(jobs: Jobs) -> None:
    job = a_job()
    jobs.delays.add(job, SHORT)
    assert [each.job for each in jobs.due()] == [job]
    assert jobs.delays.take_due(10) == []
    assert TAKEN_FOR - 20 < jobs.wait_of(job) <= TAKEN_FOR + 1


def test_a_job_that_reached_the_broker_is_forgotten(jobs: Jobs) -> None:
    jobs.delays.add(a_job(), SHORT)
    [due_job] = jobs.due()
    jobs.delays.done(due_job)
    assert jobs.names() == set()
    jobs.delays.done(due_job)
    assert jobs.names() == set()


def test_a_job_that_was_delayed_anew_since_it_was_claimed_stays(jobs: Jobs) -> None:
    job = a_job()
    jobs.delays.add(job, SHORT)
    [due_job] = jobs.due()
    jobs.delays.add(job, LONG)
    jobs.delays.done(due_job)
    assert jobs.waiting() == [job.id]


def test_a_job_that_is_delayed_to_the_very_end_of_its_claim_stays(jobs: Jobs) -> None:
    job = a_job()
    jobs.delays.add(job, SHORT)
    [due_job] = jobs.due()
    # Delays are whole milliseconds.
    end = float(due_job.score)
    jobs.client.zadd(jobs.keys.delayed, {job.id: int(end)})
    jobs.delays.done(due_job)
    assert jobs.waiting() == [job.id]


def test_a_job_whose_claimer_died_is_claimed_again(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.jobs.delays.TAKEN_FOR", SHORT)
    job = a_job()
    jobs.delays.add(job, SHORT)
    [first] = jobs.due()
    [second] = jobs.due()
    assert (first.job, second.job) == (job, job)
    jobs.delays.done(first)
    assert jobs.waiting() == [job.id]
    jobs.delays.done(second)
    assert jobs.waiting() == []


def test_a_delay_that_is_repeated_waits_once(jobs: Jobs) -> None:
    job = a_job()
    jobs.delays.add(job, LONG)
    jobs.delays.add(job, LONG)
    assert jobs.waiting() == [job.id]


def test_claims_take_no_more_than_they_are_asked_for_and_the_oldest_first(jobs: Jobs) -> None:
    waiting = [a_job(payload=number) for number in range(5)]
    for number, job in enumerate(waiting):
        jobs.delays.add(job, SHORT)
        jobs.client.zadd(jobs.keys.delayed, {job.id: number})
    assert [each.job for each in jobs.delays.take_due(3)] == waiting[:3]
    assert [each.job for each in jobs.delays.take_due(3)] == waiting[3:]


def test_a_due_time_whose_job_is_lost_is_forgotten(jobs: Jobs) -> None:
    jobs.client.zadd(jobs.keys.delayed, {"gone": 1})
    assert jobs.delays.take_due(10) == []
    assert jobs.waiting() == []


def test_a_delayed_job_that_cannot_be_read_is_logged_and_stays(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    job = a_job()
    for each in (job, a_job()):
        jobs.delays.add(each, SHORT)
    other = next(id for id in jobs.waiting() if id != job.id)
    jobs.client.hset(jobs.keys.delayed_jobs, other, b"\x07from tomorrow")
    jobs.client.zadd(jobs.keys.delayed, {job.id: 2, other: 1})
    with caplog.at_level(logging.ERROR):
        assert [each.job for each in jobs.delays.take_due(10)] == [job]
    assert "a delayed job cannot be read" in caplog.text
    assert set(jobs.waiting()) == {job.id, other}


@pytest.mark.parametrize(
    "payload",
    [
        *("text", "", "ü\u0000\n", b"", b"\x00\xff 1 2", None, True, 0, -1.5, [], {}),
        *({"a": [1, None, {"b": "ü"}]}, {"1": 2}, 2**70, {"n": -(2**64)}),
    ],
    ids=repr,
)
def test_a_payload_comes_back_as_it_was(jobs: Jobs, payload: object) -> None:
    job = jobs.begun(a_job(payload=payload))
    jobs.attempts.retry(job, "one", after=SHORT)
    [due_job] = jobs.due()
    assert due_job.job == job
    assert type(due_job.job.payload) is type(payload)
    jobs.begun(job, "two")
    jobs.attempts.park(letter_of(job), "two")
    assert jobs.dead.get(job.id) == letter_of(job)
    group = jobs.push("g", payload)
    assert jobs.payloads(group) == [payload]

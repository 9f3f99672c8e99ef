"""What FIFO groups promise, on every Redis they run on."""

import logging
import threading

import pytest

from queue_run.jobs.attempt_records import LIVING_EXPIRY
from queue_run.jobs.groups import DEDUPE_WINDOW, DRAIN_EXPIRY, Group, Next
from queue_run.jobs.stored import StoredJob
from tests.contract.jobs import LONG, MOST, SHORT, Jobs, a_job, letter_of
from tests.waiting import eventually


def job_of(found: Next) -> StoredJob:
    assert found.job is not None, found.step
    return found.job


def free(jobs: Jobs, group: Group, token: str, most: int = MOST) -> Next:
    """What a drain is told as soon as it gets the group."""

    def ask() -> list[Next]:
        found = jobs.groups.drain(group, token, most=most).advance()
        return [] if found.step == "refused" else [found]

    [found] = eventually(ask, what="the end of the lane's lease")
    return found


# Order


def test_a_groups_jobs_come_in_the_order_of_their_push(jobs: Jobs) -> None:
    group = jobs.push("g", *range(50))
    assert jobs.payloads(group) == list(range(50))


def test_groups_do_not_wait_for_each_other(jobs: Jobs) -> None:
    one, two = jobs.push("g:1", "a"), jobs.push("g:2", "b")
    assert jobs.advance(one, "x").step == "run"
    assert jobs.payloads(two) == ["b"]


def test_groups_of_one_name_in_two_queues_are_two_groups(jobs: Jobs) -> None:
    one, two = jobs.push("g", "a", queue="one"), jobs.push("g", "b", queue="two")
    assert (jobs.payloads(one), jobs.payloads(two)) == (["a"], ["b"])


def test_sequence_numbers_grow_within_a_queue(jobs: Jobs) -> None:
    seen: list[int] = []
    groups = [jobs.push("a", 1), jobs.push("b", 2), jobs.push("a", 3)]
    for group in groups:
        jobs.drained(group, lambda found: seen.append(found.sequence))
    assert seen == [1, 3, 2]
    [other] = [jobs.push("a", 1, queue="other")]
    assert jobs.advance(other).sequence == 1


def test_a_job_keeps_its_place_while_it_is_retried(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2)
    first = jobs.advance(group, "one")
    jobs.groups.postpone(group, "one", job_of(first).id, SHORT)
    again = free(jobs, group, "two")
    assert (again.job, again.sequence, again.attempt) == (first.job, first.sequence, 2)


def test_what_is_pushed_while_a_group_is_drained_runs_in_the_same_drain(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    found = jobs.advance(group)
    assert not jobs.groups.push(a_job("fifo", 2, group="g"), "new").needs_drain
    assert job_of(jobs.advance(group, done=job_of(found).id)).payload == 2


# One at a time


def test_a_group_that_is_drained_refuses_another_drain(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    assert jobs.advance(group, "one").step == "run"
    assert jobs.advance(group, "two") == Next("refused")


def test_of_drains_that_come_at_once_one_gets_the_group(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    steps: list[str] = []
    threads = [
        threading.Thread(target=lambda token=str(n): steps.append(jobs.advance(group, token).step))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(steps) == ["refused"] * 7 + ["run"]


def test_a_group_whose_drain_has_died_goes_on_with_the_job_that_ran(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2)
    first = jobs.groups_with(SHORT).drain(group, "one", most=MOST).advance()
    again = free(jobs, group, "two")
    assert (again.step, again.job, again.attempt) == ("run", first.job, 2)


def test_somebody_looks_after_a_group_whose_drain_has_died(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    jobs.groups_with(SHORT).drain(group, "one", most=MOST).advance()
    assert jobs.due_groups() == [group]


def test_a_lease_that_is_renewed_goes_on(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    found = jobs.groups_with(60).drain(group, "one", most=MOST).advance()
    assert jobs.groups.renew([(group, "one", job_of(found).id)]) == [False]
    assert jobs.expiry(jobs.keys.group_lease(group.name)) > LONG - 60
    assert jobs.wait_of_lane(group) > LONG - 60
    assert jobs.advance(group, "two").step == "refused"


def test_a_lease_that_another_drain_holds_is_not_renewed(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    found = jobs.advance(group, "one")
    jobs.groups_with(10 * LONG).renew([(group, "two", job_of(found).id)])
    assert jobs.expiry(jobs.keys.group_lease(group.name)) <= LONG
    assert jobs.wait_of_lane(group) <= LONG


# A drain that has lost its group


@pytest.fixture
def group(jobs: Jobs) -> Group:
    """A group that drain `one` was given up in, with its job 1; `two` has taken it over."""
    group = jobs.push("g", 1, 2)
    assert jobs.groups_with(SHORT).drain(group, "one", most=MOST).advance().step == "run"
    assert free(jobs, group, "two").step == "run"
    return group


def first_of(jobs: Jobs, group: Group) -> StoredJob:
    """The job that `two` runs."""
    return job_of(jobs.advance(group, "two"))


def test_it_removes_no_job_and_begins_none(jobs: Jobs, group: Group) -> None:
    job = first_of(jobs, group)
    assert jobs.advance(group, "one", done=job.id) == Next("refused")
    assert first_of(jobs, group) == job


def test_it_does_not_postpone_the_group(jobs: Jobs, group: Group) -> None:
    job = first_of(jobs, group)
    jobs.groups.postpone(group, "one", job.id, SHORT)
    assert jobs.advance(group, "two").attempt == 2
    assert jobs.wait_of_lane(group) > LONG - 60


def test_it_does_not_park_the_job_that_the_other_runs(jobs: Jobs, group: Group) -> None:
    job = first_of(jobs, group)
    assert not jobs.attempts.park(letter_of(job), "one")
    assert jobs.dead.newest(limit=10) == []
    assert first_of(jobs, group) == job


def test_it_does_not_park_a_job_whose_lease_the_other_has_renewed(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    job = job_of(jobs.groups_with(60).drain(group, "one", most=MOST).advance())
    jobs.groups.renew([(group, "one", job.id)])
    assert float(jobs.record(job)["until"]) / 1000 - jobs.now() > LONG - 60
    assert not jobs.attempts.park(letter_of(job), "two")


def test_the_other_parks_it_when_all_attempts_were_lost(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    job = job_of(jobs.groups_with(SHORT).drain(group, "one", most=1).advance())
    found = free(jobs, group, "two", most=1)
    assert (found.step, found.job, found.attempt) == ("exhausted", job, 1)
    assert jobs.attempts.park(letter_of(job), "two")
    assert jobs.advance(group, "two", done=job.id) == Next("empty")
    assert jobs.dead.get(job.id) == letter_of(job)


# A call whose answer was lost is repeated


def test_a_push_that_is_repeated_pushes_once(jobs: Jobs) -> None:
    job = a_job("fifo", 1, group="g")
    first = jobs.groups.push(job, "same")
    assert jobs.groups.push(job, "same") == first
    assert jobs.payloads(Group("fifo", "g")) == [1]


def test_an_advance_that_is_repeated_begins_one_job_once(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2)
    first = jobs.advance(group)
    assert jobs.advance(group) == first
    second = jobs.advance(group, done=job_of(first).id)
    assert jobs.advance(group, done=job_of(first).id) == second
    assert (job_of(second).payload, second.attempt) == (2, 1)


def test_a_last_attempt_whose_beginning_is_repeated_runs(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    first = jobs.groups.drain(group, "one", most=1).advance()
    assert first.step == "run"
    assert jobs.groups.drain(group, "one", most=1).advance() == first


def test_the_end_of_a_group_that_is_repeated_is_said_again(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    job = job_of(jobs.advance(group))
    assert jobs.advance(group, done=job.id) == Next("empty")
    assert jobs.advance(group, done=job.id) == Next("empty")


def test_giving_a_group_back_is_repeated_in_vain(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2)
    job = job_of(jobs.advance(group))
    assert jobs.advance(group, done=job.id, stop=True) == Next("later")
    assert jobs.advance(group, done=job.id, stop=True) == Next("later")
    assert jobs.payloads(group) == [2]


def test_a_postponement_that_is_repeated_is_made_once(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    job = job_of(jobs.advance(group))
    jobs.groups.postpone(group, "drain", job.id, LONG)
    jobs.groups.postpone(group, "drain", job.id, 2 * LONG)
    assert LONG - 60 < jobs.wait_of_lane(group) <= LONG
    assert jobs.record(job)["n"] == "1"


# Who sends drains


def test_only_the_first_push_needs_a_drain(jobs: Jobs) -> None:
    pushed = [jobs.groups.push(a_job("fifo", n, group="g"), str(n)) for n in range(3)]
    assert [each.needs_drain for each in pushed] == [True, False, False]


def test_a_group_that_was_emptied_needs_a_drain_again(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    jobs.payloads(group)
    assert jobs.groups.push(a_job("fifo", 2, group="g"), "new").needs_drain


def test_somebody_looks_after_a_group_whose_drain_never_came(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.jobs.groups.DRAIN_EXPIRY", SHORT)
    group = jobs.push("g", 1)
    assert jobs.due_groups() == [group]


def test_a_group_is_left_to_its_drain_for_a_while(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    assert jobs.groups.take_due(10) == []
    assert DRAIN_EXPIRY - 30 < jobs.wait_of_lane(group) <= DRAIN_EXPIRY


def test_a_group_is_claimed_by_one(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    jobs.client.zadd(jobs.keys.groups, {group.name: 1})
    assert jobs.groups.take_due(10) == [group]
    assert jobs.groups.take_due(10) == []


def test_claims_take_no_more_than_they_are_asked_for(jobs: Jobs) -> None:
    groups = [jobs.push(f"g{n}", 1) for n in range(3)]
    for number, group in enumerate(groups):
        jobs.client.zadd(jobs.keys.groups, {group.name: number})
    assert jobs.groups.take_due(2) == groups[:2]
    assert jobs.groups.take_due(2) == groups[2:]


def test_a_group_that_is_given_back_is_free_for_the_next_drain(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2)
    job = job_of(jobs.advance(group, "one"))
    assert jobs.advance(group, "one", done=job.id, stop=True) == Next("later")
    assert jobs.wait_of_lane(group) <= DRAIN_EXPIRY
    found = jobs.advance(group, "two")
    assert (found.step, job_of(found).payload, found.attempt) == ("run", 2, 1)


# Retries and cancellations


def test_a_postponed_group_refuses_a_drain_that_comes_early(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2)
    job = job_of(jobs.advance(group, "one"))
    jobs.groups.postpone(group, "one", job.id, LONG)
    assert jobs.advance(group, "two") == Next("refused")
    assert jobs.advance(group, "one") == Next("refused")
    assert not jobs.groups.push(a_job("fifo", 3, group="g"), "new").needs_drain
    assert LONG - 60 < jobs.wait_of_lane(group) <= LONG


def test_somebody_looks_after_a_postponed_group_when_its_time_has_come(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    jobs.groups.postpone(group, "drain", job_of(jobs.advance(group)).id, SHORT)
    assert jobs.due_groups() == [group]
    assert free(jobs, group, "two").attempt == 2


def test_attempts_are_counted_to_the_last_one(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2)
    for attempt in range(1, MOST + 1):
        found = free(jobs, group, f"drain {attempt}")
        assert (found.step, found.attempt) == ("run", attempt)
        jobs.groups.postpone(group, f"drain {attempt}", job_of(found).id, SHORT)
    found = free(jobs, group, "last")
    assert (found.step, found.attempt) == ("exhausted", MOST)
    assert job_of(jobs.advance(group, "last", done=job_of(found).id)).payload == 2


def test_a_job_that_is_cancelled_while_it_waits_in_its_group_is_ended_there(jobs: Jobs) -> None:
    group = Group("fifo", "g")
    first, second = (a_job("fifo", n, group="g") for n in range(2))
    for job in (first, second):
        jobs.groups.push(job, job.id)
    assert jobs.attempts.cancel(second.id)
    assert jobs.advance(group).step == "run"
    found = jobs.advance(group, done=first.id)
    assert (found.step, found.job, found.attempt) == ("cancelled", second, 0)
    assert jobs.advance(group, done=second.id) == Next("empty")


def test_a_job_that_runs_in_its_group_is_told_of_its_cancellation(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    job = job_of(jobs.advance(group))
    jobs.attempts.cancel(job.id)
    assert jobs.groups.renew([(group, "drain", job.id)]) == [True]


def test_a_cancelled_job_that_its_group_waits_for_is_ended_at_once(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2)
    job = job_of(jobs.advance(group, "one"))
    jobs.groups.postpone(group, "one", job.id, LONG)
    assert jobs.attempts.cancel(job.id)
    assert jobs.groups.take_due(10) == [group]
    assert jobs.advance(group, "two").step == "cancelled"
    assert job_of(jobs.advance(group, "two", done=job.id)).payload == 2


def test_a_job_that_was_cancelled_as_it_failed_is_ended_at_once(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    job = job_of(jobs.advance(group, "one"))
    jobs.attempts.cancel(job.id)
    jobs.groups.postpone(group, "one", job.id, LONG)
    assert jobs.groups.take_due(10) == [group]
    assert jobs.advance(group, "two").step == "cancelled"


def test_cancelling_a_job_that_runs_again_leaves_its_group_alone(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    job = job_of(jobs.advance(group, "one"))
    jobs.groups.postpone(group, "one", job.id, SHORT)
    assert free(jobs, group, "two").step == "run"
    jobs.attempts.cancel(job.id)
    assert jobs.advance(group, "three") == Next("refused")
    assert jobs.wait_of_lane(group) > LONG - 60


def test_a_parked_job_is_not_run_though_its_drain_died_before_it_said_so(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2)
    job = job_of(jobs.groups_with(SHORT).drain(group, "one", most=MOST).advance())
    assert jobs.attempts.park(letter_of(job), "one")
    assert job_of(free(jobs, group, "two")).payload == 2


# The same push twice


def test_the_same_push_is_dropped_and_told_the_first_ones_id(jobs: Jobs) -> None:
    first, second = (a_job("fifo", 1, group="g") for _ in range(2))
    jobs.groups.push(first, "same")
    again = jobs.groups.push(second, "same")
    assert (again.job_id, again.needs_drain) == (first.id, False)
    assert jobs.payloads(Group("fifo", "g")) == [1]


def test_the_same_push_is_dropped_also_after_the_first_has_ended(jobs: Jobs) -> None:
    first = a_job("fifo", 1, group="g")
    jobs.groups.push(first, "same")
    jobs.payloads(Group("fifo", "g"))
    assert jobs.groups.push(a_job("fifo", 1, group="g"), "same").job_id == first.id
    assert jobs.payloads(Group("fifo", "g")) == []


def test_the_same_push_counts_within_its_group_only(jobs: Jobs) -> None:
    # Names that are the same when they are joined: "a:b" + "c", "a" + "b:c".
    places = [("q", "a", "same"), ("q", "b", "same"), ("r", "a", "same")]
    places += [("q", "a:b", "c"), ("q", "a", "b:c")]
    for queue, group, dedupe in places:
        job = a_job(queue, 1, group=group)
        assert jobs.groups.push(job, dedupe).job_id == job.id


def test_the_same_push_is_taken_again_after_a_while(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.jobs.groups.DEDUPE_WINDOW", SHORT)
    jobs.groups.push(a_job("fifo", 1, group="g"), "same")
    job = a_job("fifo", 1, group="g")
    eventually(lambda: jobs.groups.push(job, "same").job_id == job.id, what="the window's end")


def test_the_window_is_that_of_the_first_push(jobs: Jobs) -> None:
    jobs.groups.push(a_job("fifo", 1, group="g"), "same")
    key = jobs.keys.dedupe("fifo:g", "same")
    jobs.client.pexpire(key, 100_000)
    jobs.groups.push(a_job("fifo", 1, group="g"), "same")
    assert 0 < jobs.expiry(key) <= 100 < DEDUPE_WINDOW


# Nothing stays for ever


def test_an_empty_group_leaves_nothing_but_the_memory_of_its_pushes(jobs: Jobs) -> None:
    group = jobs.push("g", 1, 2, 3)
    first = job_of(jobs.advance(group, "one"))
    jobs.groups.postpone(group, "one", first.id, SHORT)
    assert job_of(free(jobs, group, "two")) == first
    second = job_of(jobs.advance(group, "two", done=first.id))
    jobs.attempts.cancel(second.id)
    third = job_of(jobs.advance(group, "two", done=second.id))
    jobs.attempts.park(letter_of(third), "two")
    assert jobs.advance(group, "two", done=third.id) == Next("empty")
    jobs.dead.drop(third.id)
    left = {name for name in jobs.names() if not name.startswith("dedupe:")}
    assert left == {"sequence:fifo", f"job:{third.id}"}
    for name in jobs.names() - {"sequence:fifo"}:
        assert jobs.expiry(f"{jobs.settings.namespace}:{name}") > 0


def test_a_group_without_jobs_is_forgotten_when_somebody_looks_after_it(jobs: Jobs) -> None:
    group = Group("fifo", "g")
    jobs.client.zadd(jobs.keys.groups, {group.name: 1})
    assert jobs.groups.take_due(10) == [group]
    assert jobs.advance(group) == Next("empty")
    assert jobs.names() == set()


def test_the_record_of_a_job_in_a_group_expires_and_the_job_does_not(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    job = job_of(jobs.advance(group))
    assert LIVING_EXPIRY - 60 < jobs.expiry(jobs.keys.job(job.id)) <= LIVING_EXPIRY
    assert jobs.expiry(jobs.keys.group(group.name)) < 0
    assert jobs.expiry(jobs.keys.groups) < 0


def test_a_drain_whose_group_is_lost_ends_and_leaves_nothing(jobs: Jobs) -> None:
    group = jobs.push("g", 1)
    job = job_of(jobs.advance(group))
    jobs.forget()
    assert jobs.groups.renew([(group, "drain", job.id)]) == [False]
    jobs.groups.postpone(group, "drain", job.id, LONG)
    assert jobs.advance(group, done=job.id) == Next("empty")
    assert jobs.names() == set()


# What cannot be read


@pytest.mark.parametrize(
    "entry", [b"1 an-id \x07from tomorrow", b"1 an-id \x01\xc1", b"nonsense", b"x y z"], ids=repr
)
def test_a_group_waits_for_a_worker_that_can_read_its_first_job(
    jobs: Jobs, entry: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.jobs.groups.DRAIN_EXPIRY", SHORT)
    group = jobs.push("g", 2)
    key = jobs.keys.group(group.name)
    jobs.client.lpush(key, entry)
    with caplog.at_level(logging.ERROR):
        # More often than a job may be tried: looking at it is no attempt.
        for number in range(MOST + 2):
            assert jobs.due_groups() == [group]
            # Its lease may end a moment after it is due: until then a drain is refused, too.
            while caplog.text.count("fifo:g waits, for its first job cannot be read") == number:
                assert jobs.advance(group, f"drain {number}") == Next("refused")
    job = a_job("fifo", 1, group="g")
    jobs.groups.push(job, "readable")
    readable = jobs.client.lindex(key, -1)
    assert isinstance(readable, bytes)
    jobs.client.lpop(key)
    jobs.client.rpop(key)
    jobs.client.lpush(key, readable)
    found = free(jobs, group, "newer")
    assert (found.step, found.job, found.attempt) == ("run", job, 1)
    assert job_of(jobs.advance(group, "newer", done=job.id)).payload == 2


def test_a_name_that_cannot_be_read_does_not_keep_other_groups_from_their_drains(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    group = jobs.push("g", 1)
    jobs.client.zadd(jobs.keys.groups, {b"\xff": 1, group.name.encode(): 2})
    with caplog.at_level(logging.ERROR):
        assert jobs.groups.take_due(10) == [group]
    assert "a name among the groups cannot be read" in caplog.text

"""Jobs that are pushed, and run when the test says so."""

import time
from importlib import import_module

import pytest

from queue_run import queues
from queue_run.errors import InvalidPush, UnknownQueue
from queue_run.jobs.groups import DEDUPE_WINDOW
from queue_run.jobs.stored import JobFacts, StoredJob
from queue_run.process import acting
from queue_run.testing import Application, Pushed
from queue_run.testing.jobs import MOST_JOBS, PushedJobs
from tests.conftest import WriteApp


def ran() -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = import_module("queues.account").ran
    return found


def test_jobs_are_kept_and_not_run(jobs: Application) -> None:
    with jobs.connected(user="ann") as client:
        client.send("eve")
        assert jobs.pushed == [Pushed(queue="mail", payload={"to": "eve"}, user={"id": "ann"})]
        assert jobs.pushed != [Pushed(queue="mail", payload={"to": "eve"})]
        assert client.received == []


def test_run_jobs_runs_them_and_those_that_they_push(jobs: Application) -> None:
    with jobs.connected(user="ann") as client:
        client.send("eve")
        done = jobs.run_jobs()
        assert client.received == [{"mailed": "eve", "attempt": 1}]
    mail, log = jobs.pushed
    assert done == [mail, log]
    assert mail.payload == {"to": "eve"}
    assert log.payload == [mail.id, "ann"]
    assert jobs.run_jobs() == []
    assert import_module("queues.log.all").seen == [([mail.id, "ann"], {"id": "ann"}, "log.all")]


def test_a_job_can_be_run_directly(jobs: Application) -> None:
    assert jobs.run_job("log.all", (1, b"x".hex()), user="ann") == [
        ([1, "78"], {"id": "ann"}, "log.all")
    ]
    assert jobs.pushed == []


def test_jobs_without_an_end_are_ended(write_app: WriteApp) -> None:
    again = "from queue_run import queues\ndef handler(job): queues.get('again').push(job)"
    with Application(write_app({"queues/again.py": again})) as app:
        queues.get("again").push(1)
        with pytest.raises(RuntimeError, match="still more"):
            app.run_jobs()
        assert len(app.pushed) == MOST_JOBS + 1


def test_an_unknown_queue_is_an_error_where_it_is_pushed_to(jobs: Application) -> None:
    with pytest.raises(UnknownQueue, match=r"the workers offer log\.all, mail"):
        queues.get("male").push(1)
    with pytest.raises(UnknownQueue):
        jobs.run_job("male", 1)
    assert jobs.pushed == []


def test_jobs_are_equal_by_all_but_their_ids_and_times() -> None:
    job = Pushed(queue="mail", payload=1, user={"id": "ann"}, id="a", queued_at=1.0)
    assert job == Pushed(queue="mail", payload=1, user={"id": "ann"})
    assert job != Pushed(queue="mail", payload=2, user={"id": "ann"})
    assert job != Pushed(queue="mail", payload=1)
    assert job != Pushed(queue="post", payload=1, user={"id": "ann"})
    assert job != Pushed(queue="mail", payload=1, user={"id": "ann"}, params={"a": "b"})
    assert job != Pushed(queue="mail", payload=1, user={"id": "ann"}, group="a")
    assert job != Pushed(queue="mail", payload=1, user={"id": "ann"}, dedupe="a")


# What jobs are given


@pytest.mark.parametrize("queue", ["plain", "awaited"])
def test_a_job_gets_its_metadata(metadata: Application, queue: str) -> None:
    begin = time.time()
    given = metadata.run_job(queue, [1], user="ann", params={"a": "b"}, attempt=2)
    assert begin <= given.pop("queued_at") <= time.time()
    assert given.pop("job_id")
    assert given == {
        "job": [1],
        "user": {"id": "ann"},
        "queue_name": queue,
        "attempt": 2,
        "group_id": None,
        "sequence_number": None,
        "params": {"a": "b"},
        "signal": False,
    }


@pytest.mark.parametrize("queue", ["plain_lane", "awaited_lane"])
def test_a_job_of_a_group_gets_its_group_and_number(metadata: Application, queue: str) -> None:
    queues.get(queue).group("other").push(1)
    given = metadata.run_job(queue, 1, group=7)
    assert (given["group_id"], given["sequence_number"]) == ("7", 2)


def test_a_job_that_was_pushed_gets_what_was_given_to_push(write_app: WriteApp) -> None:
    handler = "seen = []\ndef handler(job, *, job_id, queued_at, params, user):\n"
    handler += "    seen.append((job_id, queued_at, params, user))\n    params['a'] = 'changed'"
    with Application(write_app({"queues/mail.py": handler})) as app:
        with acting.as_user("ann"):
            job_id = queues.get("mail").push(1, params={"a": "b"}).value
        assert app.pushed == [
            Pushed(queue="mail", payload=1, user={"id": "ann"}, params={"a": "b"})
        ]
        app.run_jobs()
        [job] = app.pushed
        assert (job.id, job.params) == (job_id, {"a": "b"})
        [seen] = import_module("queues.mail").seen
        assert seen == (job_id, job.queued_at, {"a": "changed"}, {"id": "ann"})


@pytest.mark.parametrize("attempt", [0, 5])
def test_an_attempt_that_no_job_has_is_a_mistake_of_the_test(
    jobs: Application, attempt: int
) -> None:
    with pytest.raises(ValueError, match="attempts 1 to 4"):
        jobs.run_job("log.all", 1, attempt=attempt)


# Payloads


def test_a_payload_is_checked_where_it_is_pushed(groups: Application) -> None:
    group = queues.get("account").group("ann")
    with pytest.raises(InvalidPush, match=r"payload\.add: expected `int`, got `str`"):
        group.push({"add": "one"})
    with pytest.raises(InvalidPush, match="account does not take this payload"):
        import_module("queues.account").queue.group("ann").push({})
    assert groups.pushed == []


async def test_a_payload_is_checked_in_asynchronous_code_too(groups: Application) -> None:
    with pytest.raises(InvalidPush):
        await queues.get("account").group("ann").push({"add": "one"})
    assert groups.pushed == []


# FIFO queues


def test_a_group_is_needed_by_fifo_queues_and_by_no_others(
    groups: Application, write_app: WriteApp
) -> None:
    with pytest.raises(InvalidPush, match="say which group"):
        queues.get("account").push({"add": 1})
    with pytest.raises(InvalidPush, match="say which group"):
        groups.run_job("account", {"add": 1})
    with Application(write_app({"queues/mail.py": "def handler(job): 0"})) as app:
        with pytest.raises(InvalidPush, match="no FIFO queue"):
            queues.get("mail").group("ann").push(1)
        with pytest.raises(InvalidPush, match="dedupe is for FIFO queues only"):
            queues.get("mail").dedupe("a").push(1)
        with pytest.raises(InvalidPush, match="no FIFO queue"):
            app.run_job("mail", 1, group="ann")
        assert app.pushed == []


def test_jobs_of_a_group_keep_their_order(groups: Application) -> None:
    for number in range(6):
        queues.get("account").group(number % 2).push({"add": number})
    assert [each.group for each in groups.run_jobs()] == ["0", "1"] * 3
    assert [number for group, number in ran() if group == "0"] == [0, 2, 4]
    assert [number for group, number in ran() if group == "1"] == [1, 3, 5]


def test_a_repeated_push_gives_the_first_id_and_is_not_kept(groups: Application) -> None:
    account = queues.get("account")
    first = account.group("ann").push({"add": 1})
    assert account.group("ann").push({"add": 1}) == first
    assert account.group("bob").push({"add": 1}) != first
    assert account.group("ann").push({"add": 2}) != first
    by_id = account.group("ann").dedupe("transfer").push({"add": 1})
    assert by_id != first
    assert account.group("ann").dedupe("transfer").push({"add": 3}) == by_id
    assert [(each.group, each.dedupe, each.payload["add"]) for each in groups.pushed] == [
        ("ann", None, 1),
        ("bob", None, 1),
        ("ann", None, 2),
        ("ann", "transfer", 1),
    ]
    groups.run_jobs()
    # A job that has ended is not pushed again either.
    assert account.group("ann").push({"add": 1}) == first
    assert groups.run_jobs() == []


async def test_a_repeated_push_gives_the_first_id_when_it_is_awaited(groups: Application) -> None:
    group = queues.get("account").group("ann")
    assert await group.push({"add": 1}) == await group.push({"add": 1})
    assert len(await groups.run_jobs_async()) == 1


def test_clear_forgets_groups_and_repetitions(groups: Application) -> None:
    group = queues.get("account").group("ann")
    first = group.push({"add": 1})
    groups.clear()
    assert group.push({"add": 1}) != first
    assert len(groups.run_jobs()) == 1


def test_clear_begins_the_numbers_of_a_queue_anew(metadata: Application) -> None:
    queues.get("plain_lane").group("ann").push(1)
    metadata.clear()
    assert metadata.run_job("plain_lane", 1, group="ann")["sequence_number"] == 1


async def test_payloads_are_the_same_as_for_a_worker(metadata: Application) -> None:
    group = queues.get("plain_lane").group("ann")
    different = [await group.push(each) for each in ("1", b"1", 1, [1], {"a": 1, "b": 2})]
    assert len(set(different)) == len(different)
    assert await group.push({"b": 2, "a": 1}) == different[-1]


def stored(job_id: str, group: str = "a", at: float = 1000.0) -> StoredJob:
    facts = JobFacts(queued_at=at, group=group)
    return StoredJob(id=job_id, queue="mail", payload=None, facts=facts)


def test_a_push_is_repeated_for_five_minutes() -> None:
    pushed = PushedJobs()
    assert pushed.push(stored("1")) == "1"
    assert pushed.push(stored("2", at=1000 + DEDUPE_WINDOW - 1)) == "1"
    # The first push counts, and not the repetition.
    assert pushed.push(stored("3", at=1000 + DEDUPE_WINDOW)) == "3"
    assert pushed.push(stored("4", at=1000 + DEDUPE_WINDOW + 1)) == "3"
    assert [each.id for each in pushed.all] == ["1", "3"]


def test_one_job_of_a_group_is_taken_at_a_time() -> None:
    pushed = PushedJobs()
    for number, group in enumerate("aab"):
        pushed.push(stored(str(number), group), same=str(number))
    first, other = pushed.take(), pushed.take()
    assert first is not None
    assert other is not None
    assert (first.stored.id, other.stored.id) == ("0", "2")
    assert pushed.take() is None
    pushed.end(first)
    second = pushed.take()
    assert second is not None
    assert (second.stored.id, second.sequence) == ("1", 2)


# Cancelling


def test_a_job_that_was_cancelled_is_not_run(jobs: Application) -> None:
    first, second = (queues.get("log.all").push(each).value for each in (1, 2))
    assert queues.cancel(first)
    assert [each.id for each in jobs.run_jobs()] == [second]
    assert import_module("queues.log.all").seen == [(2, None, "log.all")]
    assert len(jobs.pushed) == 2


async def test_cancel_gives_false_for_a_job_that_has_ended(write_app: WriteApp) -> None:
    handler = "def handler(job):\n    if job == 'fail': raise LookupError(job)"
    async with Application(write_app({"queues/mail.py": handler})) as app:
        ended = await queues.get("mail").push(1)
        failed = await queues.get("mail").push("fail")
        cancelled = await queues.get("mail").push(2)
        assert await queues.cancel(cancelled)
        assert await queues.cancel(cancelled)
        with pytest.raises(LookupError):
            await app.run_jobs_async()
        assert await app.run_jobs_async() == []
        for job_id in (ended, failed, cancelled):
            assert not await queues.cancel(job_id)
        app.clear()
        assert not await queues.cancel(ended)


def test_a_repeated_push_does_not_bring_back_a_cancelled_job(groups: Application) -> None:
    group = queues.get("account").group("ann")
    first = group.push({"add": 1}).value
    queues.cancel(first)
    assert group.push({"add": 1}).value == first
    group.push({"add": 2})
    groups.run_jobs()
    assert ran() == [("ann", 2)]


def test_a_cancellation_ends_with_its_job() -> None:
    pushed = PushedJobs()
    entry = pushed.begin(stored("1"))
    assert pushed.cancel("1")
    assert entry.signal.is_set()
    assert pushed.is_cancelled("1")
    pushed.end(entry)
    assert not pushed.is_cancelled("1")

"""`queue_run.dead_letters`: what people and programs do with jobs that have failed for good."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from queue_run import (
    DeadLetter,
    InvalidName,
    JobStoreUnavailable,
    NotAwaited,
    UnknownDeadLetter,
    dead_letters,
)
from queue_run.jobs.delays import Delays
from queue_run.jobs.groups import Group
from queue_run.jobs.stored import JobFacts, StoredJob
from queue_run.process import runtime
from queue_run.process.runtime import Runtime
from queue_run.settings import Settings


@pytest.fixture
def here(no_runtime: None, fake_redis_url: str, namespace: str) -> Iterator[Runtime]:
    here = runtime.configure(Settings(redis_url=fake_redis_url, namespace=namespace))
    yield here
    here.close()


def park(here: Runtime, job_id: str, queue: str = "mail", group: str | None = None) -> DeadLetter:
    job = StoredJob(id=job_id, queue=queue, payload={"n": 1}, facts=JobFacts(group=group))
    letter = DeadLetter(
        job=job, attempts=4, failed_at=1.0, error="ValueError: no", fifo=group is not None
    )
    assert here.attempts.park(letter, "token")
    return letter


def test_letters_are_listed_by_queue_and_number(here: Runtime) -> None:
    one, two = park(here, "one"), park(here, "two", "report")
    assert {each.job.id for each in dead_letters.newest().value} == {"one", "two"}
    assert dead_letters.newest("mail").value == [one]
    assert dead_letters.newest("report").value == [two]
    assert len(dead_letters.newest(limit=1).value) == 1


def test_a_letter_is_found_by_its_jobs_id(here: Runtime) -> None:
    letter = park(here, "one")
    park(here, "two")
    assert dead_letters.get("one").value == letter


def test_a_retried_job_comes_again_under_its_id(here: Runtime) -> None:
    park(here, "one")
    dead_letters.retry("one")
    assert dead_letters.newest().value == []
    [due_job] = Delays(here.store).take_due(10)
    assert due_job.job == StoredJob(
        id="one", queue="mail", payload={"n": 1}, facts=JobFacts(revived=1)
    )


def test_a_retried_job_of_a_group_comes_as_its_last(here: Runtime) -> None:
    waiting = StoredJob(id="w", queue="mail", payload=2, facts=JobFacts(group="g"))
    here.groups.push(waiting, "w")
    park(here, "one", group="g")
    dead_letters.retry("one")
    group = Group("mail", "g")
    assert here.groups.drain(group, "drain", most=1).advance().job == waiting
    last = here.groups.drain(group, "drain", most=1).advance(done="w").job
    assert last is not None
    assert (last.id, last.facts) == ("one", JobFacts(group="g", revived=1))


def test_a_dropped_job_is_forgotten(here: Runtime) -> None:
    park(here, "one")
    dead_letters.drop("one")
    assert dead_letters.newest().value == []
    assert Delays(here.store).take_due(10) == []


@pytest.mark.parametrize("verb", [dead_letters.get, dead_letters.retry, dead_letters.drop])
def test_a_letter_that_is_not_there_is_unknown(here: Runtime, verb: object) -> None:
    assert callable(verb)
    with pytest.raises(UnknownDeadLetter, match="no dead letter 'one'"):
        verb("one")


@pytest.mark.parametrize("verb", [dead_letters.retry, dead_letters.drop])
def test_a_letter_is_retried_or_dropped_once(here: Runtime, verb: object) -> None:
    assert callable(verb)
    park(here, "one")
    verb("one")
    with pytest.raises(UnknownDeadLetter):
        verb("one")


# Asynchronous code


async def test_asynchronous_code_awaits_what_is_done_elsewhere(here: Runtime) -> None:
    letter = await asyncio.to_thread(park, here, "one")
    assert await dead_letters.newest() == [letter]
    assert await dead_letters.get("one") == letter
    await dead_letters.retry("one")
    with pytest.raises(UnknownDeadLetter):
        await dead_letters.drop("one")
    asked = dead_letters.newest()
    with pytest.raises(NotAwaited, match="await it"):
        _ = asked.value
    assert await asked == asked.value == []


# Former spellings


FORMER = r"the answer of dead_letters as its value is a former spelling.* use ….value, or await"


def test_letters_are_used_as_a_list_in_former_spellings(here: Runtime) -> None:
    one = park(here, "one")
    found: Any = dead_letters.newest()
    uses: list[Callable[[], object]] = [
        lambda: [each.job.id for each in found] == ["one"],
        lambda: len(found) == 1,
        lambda: found[0] == one,
        lambda: one in found,
        lambda: found == [one],
        lambda: found.index(one) == 0,
    ]
    for use in uses:
        with pytest.warns(DeprecationWarning, match=FORMER) as told:
            assert use()
        assert [each.filename for each in told] == [__file__]
    assert found != dead_letters.newest()
    assert {found: 1}[found] == 1


def test_a_letter_is_used_as_itself_in_former_spellings(here: Runtime) -> None:
    park(here, "one")
    found: Any = dead_letters.get("one")
    with pytest.warns(DeprecationWarning, match=FORMER):
        assert found.job.id == "one"
    with (
        pytest.warns(DeprecationWarning, match=FORMER),
        pytest.raises(AttributeError, match="nonsense"),
    ):
        _ = found.nonsense


async def test_letters_asked_for_in_a_thread_are_used_as_before(here: Runtime) -> None:
    found: Any = await asyncio.to_thread(dead_letters.newest)
    with pytest.warns(DeprecationWarning, match=FORMER):
        assert list(found) == []


def test_without_redis_nothing_is_known_of_letters(process: Runtime) -> None:
    with pytest.raises(JobStoreUnavailable):
        dead_letters.newest()
    with pytest.raises(JobStoreUnavailable):
        dead_letters.retry("one")


@pytest.mark.parametrize("verb", [dead_letters.get, dead_letters.retry, dead_letters.drop])
@pytest.mark.parametrize("name", ["", "a\ud83d", None, [1]], ids=ascii)
def test_what_is_no_id_is_no_letters(
    here: Runtime, verb: Callable[[Any], object], name: object
) -> None:
    with pytest.raises(InvalidName):
        verb(name)

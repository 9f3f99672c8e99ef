"""What the scripts are told; what they do is in tests/contract/test_jobs.py."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from queue_run.contracts.keys import Keys
from queue_run.jobs.attempt_records import CANCEL_EXPIRY, LIVING_EXPIRY, Attempts, Beginning
from queue_run.jobs.stored import DeadLetter, StoredJob, encode
from queue_run.storage.scripts import Store

JOB = StoredJob(id="a", queue="mail", payload=1)


class RecordingStore:
    """Keeps what scripts are told, and answers as the test says."""

    def __init__(self) -> None:
        self.keys = Keys("shop")
        self.answer: Any = 1
        self.told: list[list[object]] = []
        self.named: list[list[str]] = []

    def script(self, text: str) -> str:
        return text

    def call(self, script: str, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        self.named.append(list(keys))
        self.told.append(list(arguments))
        return self.answer

    def call_all(self, calls: Any) -> Any:
        return [self.call(*call) for call in calls]


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


@pytest.fixture
def attempts(store: RecordingStore) -> Attempts:
    return Attempts(cast("Store", store), lease=15, visibility=600)


def test_times_are_told_in_whole_milliseconds(store: RecordingStore, attempts: Attempts) -> None:
    store.answer = [b"run", 2, 0]
    attempts.begin("a", "token", most=4)
    attempts.end("a", "token", "finished")
    attempts.retry(JOB, "token", after=1.2345)
    attempts.renew([("a", "token")])
    attempts.cancel("a")
    assert store.told == [
        ["token", 15_000, 4, LIVING_EXPIRY * 1000],
        ["token", "finished", 1_200_000, "a"],
        ["token", 1234, "a", encode(JOB), LIVING_EXPIRY * 1000],
        ["token", 15_000],
        ["a", CANCEL_EXPIRY * 1000, "shop:lane-lease:"],
    ]


def test_a_retry_at_once_is_one_of_a_millisecond(store: RecordingStore, attempts: Attempts) -> None:
    attempts.retry(JOB, "token", after=0)
    assert store.told[0][1] == 1


def test_an_end_is_remembered_for_longer_than_the_broker_hands_a_job_out_again(
    store: RecordingStore,
) -> None:
    Attempts(cast("Store", store), lease=1, visibility=100).park(
        DeadLetter(job=JOB, attempts=1, failed_at=0.0, error="no"), "token"
    )
    assert store.told[0][-1] == 200_000


@pytest.mark.parametrize("verdict", ["run", "ended", "busy", "cancelled", "exhausted"])
def test_a_verdict_comes_with_the_attempt_and_the_seconds_to_wait(
    store: RecordingStore, attempts: Attempts, verdict: Any
) -> None:
    store.answer = [verdict.encode(), 3, 1500]
    expected = Beginning(verdict=verdict, attempt=3, after=1.5)
    assert attempts.begin("a", "token", most=4) == expected


@pytest.mark.parametrize("answer", [0, 1])
def test_an_answer_is_yes_or_no(store: RecordingStore, attempts: Attempts, answer: int) -> None:
    store.answer = answer
    letter = DeadLetter(job=JOB, attempts=1, failed_at=0.0, error="no")
    expected = bool(answer)
    assert attempts.end("a", "token", "failed") is expected
    assert attempts.retry(JOB, "token", after=1) is expected
    assert attempts.park(letter, "token") is expected
    assert attempts.cancel("a") is expected
    assert attempts.renew([("a", "token"), ("b", "token")]) == [expected, expected]
    assert {keys[0] for keys in store.named} == {"shop:job:a", "shop:job:b"}

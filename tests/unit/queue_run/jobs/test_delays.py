"""Jobs that wait for their time; more in tests/contract/test_jobs.py."""

import threading
from collections.abc import Iterator

import pytest

from queue_run.jobs.delays import TAKEN_FOR, Delays, DueJob
from queue_run.jobs.stored import StoredJob
from queue_run.settings import Settings
from queue_run.storage.scripts import Store
from tests.waiting import eventually


@pytest.fixture
def delays(fake_redis_url: str, namespace: str) -> Iterator[Delays]:
    store = Store(Settings(redis_url=fake_redis_url, namespace=namespace), patience=5)
    yield Delays(store)
    store.close()


def test_a_claim_outlasts_a_broker_that_is_slow() -> None:
    assert Settings().publish_timeout < TAKEN_FOR


def test_every_job_that_is_due_is_claimed_once_by_one_of_many(delays: Delays) -> None:
    jobs = [StoredJob(id=str(number), queue="q", payload=number) for number in range(40)]
    for job in jobs:
        delays.add(job, 0)
    due_job: list[DueJob] = []

    def take_due() -> None:
        while len(due_job) < len(jobs):
            due_job.extend(delays.take_due(3))

    threads = [threading.Thread(target=take_due, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(due_job) >= len(jobs), what="all jobs")
    assert sorted(int(each.job.id) for each in due_job) == list(range(40))
    for each in due_job:
        delays.done(each)
    for thread in threads:
        thread.join()
    assert len(due_job) == len(jobs)

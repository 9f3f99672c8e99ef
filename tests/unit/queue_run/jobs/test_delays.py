"""Jobs that wait for their time; more in tests/contract/test_jobs.py."""

import threading
from collections.abc import Iterator

import pytest

from queue_run.jobs.delays import CLAIM, Claimed, Delays
from queue_run.jobs.envelopes import JobEnvelope
from queue_run.settings import Settings
from queue_run.storage.scripts import Store
from tests.waiting import eventually


@pytest.fixture
def delays(fake_redis_url: str, namespace: str) -> Iterator[Delays]:
    store = Store(Settings(redis_url=fake_redis_url, namespace=namespace), patience=5)
    yield Delays(store)
    store.close()


def test_a_claim_outlasts_a_broker_that_is_slow() -> None:
    assert Settings().publish_timeout < CLAIM


def test_every_job_that_is_due_is_claimed_once_by_one_of_many(delays: Delays) -> None:
    jobs = [JobEnvelope(id=str(number), queue="q", payload=number) for number in range(40)]
    for job in jobs:
        delays.add(job, 0)
    claimed: list[Claimed] = []

    def claim() -> None:
        while len(claimed) < len(jobs):
            claimed.extend(delays.claim(3))

    threads = [threading.Thread(target=claim, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(claimed) >= len(jobs), what="all jobs")
    assert sorted(int(each.job.id) for each in claimed) == list(range(40))
    for each in claimed:
        delays.done(each)
    for thread in threads:
        thread.join()
    assert len(claimed) == len(jobs)

"""Pages of dead letters; more in tests/contract/test_dead_letters.py."""

from collections.abc import Iterator

import pytest

from queue_run.jobs import dead
from queue_run.jobs.attempt_records import Attempts
from queue_run.jobs.dead import DeadLetters
from queue_run.jobs.stored import DeadLetter, StoredJob
from queue_run.settings import Settings
from queue_run.storage.scripts import Store


@pytest.fixture
def store(fake_redis_url: str, namespace: str) -> Iterator[Store]:
    store = Store(Settings(redis_url=fake_redis_url, namespace=namespace), patience=5)
    yield store
    store.close()


def park(store: Store, *names: str) -> None:
    attempts = Attempts(store, lease=60, visibility=60)
    for name in names:
        job = StoredJob(id=name, queue="q", payload=1)
        attempts.park(DeadLetter(job=job, attempts=1, failed_at=0.0, error="no"), "token")


def test_a_letter_that_comes_while_pages_are_read_is_not_shown_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "PAGE", 2)
    park(store, *"abcd")

    class Slow(DeadLetters):
        def _page(self, start: int) -> list[DeadLetter] | None:
            page = super()._page(start)
            park(store, f"new {start}")
            return page

    found = [each.job.id for each in Slow(store).newest(limit=4)]
    assert sorted(found) == list("abcd")


def test_a_letter_that_goes_while_pages_are_read_is_passed_over(store: Store) -> None:
    park(store, *"abc")
    store.client.hdel(store.keys.dead, "b")
    assert {each.job.id for each in DeadLetters(store).newest(limit=9)} == {"a", "c"}


def test_every_call_has_a_token_of_its_own() -> None:
    assert len({dead._new_token() for _ in range(100)}) == 100

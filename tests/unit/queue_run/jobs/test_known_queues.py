"""Which queues workers offer."""

import pytest
import redis

from queue_run.contracts.keys import Keys
from queue_run.contracts.manifest import Manifest, QueueFacts
from queue_run.errors import UnknownQueue
from queue_run.jobs import known_queues
from queue_run.jobs.known_queues import KnownQueues
from queue_run.settings import Settings


@pytest.fixture
def settings(fake_redis_url: str, namespace: str) -> Settings:
    return Settings(redis_url=fake_redis_url, namespace=namespace)


def leave(settings: Settings, data: bytes) -> None:
    """What workers leave in Redis."""
    with redis.Redis.from_url(settings.redis_url) as client:
        client.set(Keys(settings.namespace).manifest, data)


def offer(settings: Settings, *names: str) -> None:
    leave(settings, Manifest(queues=dict.fromkeys(names, QueueFacts())).encode())


def ask_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_queues, "REFRESH_UNKNOWN", 0)
    monkeypatch.setattr(known_queues, "REFRESH_KNOWN", 0)


def test_a_queue_that_is_offered_is_known_with_its_facts(settings: Settings) -> None:
    facts = QueueFacts(fifo=True, celery_queue="reports")
    leave(settings, Manifest(queues={"mail": QueueFacts(), "report": facts}).encode())
    known = KnownQueues(settings)
    assert known.facts("mail") == QueueFacts()
    assert known.facts("report") == facts


def test_another_name_is_refused_with_those_that_are_offered(settings: Settings) -> None:
    offer(settings, "report", "mail")
    with pytest.raises(UnknownQueue, match="no queue 'mial': the workers offer mail, report"):
        KnownQueues(settings).facts("mial")


def test_before_any_worker_has_started_every_name_will_do(settings: Settings) -> None:
    assert KnownQueues(settings).facts("mail") is None


def test_workers_that_offer_no_queue_refuse_every_name(settings: Settings) -> None:
    offer(settings)
    with pytest.raises(UnknownQueue, match="the workers offer none"):
        KnownQueues(settings).facts("mail")


def test_a_new_queue_is_found_when_it_is_first_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_each_time(monkeypatch)
    known = KnownQueues(settings)
    offer(settings, "mail")
    known.facts("mail")
    offer(settings, "mail", "report")
    known.facts("report")


def test_wrong_names_do_not_ask_redis_each_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_queues, "REFRESH_UNKNOWN", 3600)
    known = KnownQueues(settings)
    offer(settings, "mail")
    known.facts("mail")
    offer(settings, "mail", "report")
    with pytest.raises(UnknownQueue):
        known.facts("report")


def test_a_name_that_is_known_asks_redis_seldom(settings: Settings) -> None:
    known = KnownQueues(settings)
    offer(settings, "mail")
    known.facts("mail")
    offer(settings, "report")
    assert known.facts("mail") == QueueFacts()


def test_what_is_known_of_a_queue_changes_with_its_workers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_queues, "REFRESH_KNOWN", 0)
    known = KnownQueues(settings)
    offer(settings, "mail")
    known.facts("mail")
    leave(settings, Manifest(queues={"mail": QueueFacts(fifo=True)}).encode())
    assert known.facts("mail") == QueueFacts(fifo=True)


def test_without_redis_every_name_will_do() -> None:
    assert KnownQueues(Settings(redis_url="redis://127.0.0.1:1/0")).facts("mail") is None


def test_a_manifest_that_cannot_be_read_refuses_nothing(settings: Settings) -> None:
    leave(settings, b"not a manifest")
    assert KnownQueues(settings).facts("mail") is None


def test_a_manifest_that_can_no_longer_be_read_leaves_what_was_known(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_each_time(monkeypatch)
    known = KnownQueues(settings)
    offer(settings, "mail")
    known.facts("mail")
    leave(settings, b"not a manifest")
    known.facts("mail")
    with pytest.raises(UnknownQueue):
        known.facts("mial")

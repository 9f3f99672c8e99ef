"""Which queues workers offer."""

import pytest
import redis

from queue_run import known_queues
from queue_run.errors import UnknownQueue
from queue_run.keys import Keys
from queue_run.known_queues import KnownQueues
from queue_run.manifest import Manifest
from queue_run.settings import Settings


@pytest.fixture
def settings(fake_redis_url: str, namespace: str) -> Settings:
    return Settings(redis_url=fake_redis_url, namespace=namespace)


def leave(settings: Settings, data: bytes) -> None:
    """What workers leave in Redis."""
    with redis.Redis.from_url(settings.redis_url) as client:
        client.set(Keys(settings.namespace).manifest, data)


def offer(settings: Settings, *names: str) -> None:
    leave(settings, Manifest(queues=list(names)).encode())


def test_a_queue_that_is_offered_is_known(settings: Settings) -> None:
    offer(settings, "mail", "report")
    KnownQueues(settings).check("mail")


def test_another_name_is_refused_with_those_that_are_offered(settings: Settings) -> None:
    offer(settings, "report", "mail")
    with pytest.raises(UnknownQueue, match="no queue 'mial': the workers offer mail, report"):
        KnownQueues(settings).check("mial")


def test_before_any_worker_has_started_every_name_will_do(settings: Settings) -> None:
    KnownQueues(settings).check("mail")


def test_workers_that_offer_no_queue_refuse_every_name(settings: Settings) -> None:
    offer(settings)
    with pytest.raises(UnknownQueue, match="the workers offer none"):
        KnownQueues(settings).check("mail")


def test_a_new_queue_is_found_when_it_is_first_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_queues, "REFRESH", 0)
    known = KnownQueues(settings)
    offer(settings, "mail")
    known.check("mail")
    offer(settings, "mail", "report")
    known.check("report")


def test_wrong_names_do_not_ask_redis_each_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_queues, "REFRESH", 3600)
    known = KnownQueues(settings)
    offer(settings, "mail")
    known.check("mail")
    offer(settings, "mail", "report")
    with pytest.raises(UnknownQueue):
        known.check("report")


def test_a_name_that_is_known_asks_redis_no_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_queues, "REFRESH", 0)
    known = KnownQueues(settings)
    offer(settings, "mail")
    known.check("mail")
    offer(settings, "report")
    known.check("mail")


def test_without_redis_every_name_will_do() -> None:
    KnownQueues(Settings(redis_url="redis://127.0.0.1:1/0")).check("mail")


def test_a_manifest_that_cannot_be_read_refuses_nothing(settings: Settings) -> None:
    leave(settings, b"not a manifest")
    KnownQueues(settings).check("mail")


def test_a_manifest_that_can_no_longer_be_read_leaves_what_was_known(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_queues, "REFRESH", 0)
    known = KnownQueues(settings)
    offer(settings, "mail")
    known.check("mail")
    leave(settings, b"not a manifest")
    known.check("mail")
    with pytest.raises(UnknownQueue):
        known.check("mial")

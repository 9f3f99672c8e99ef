"""What workers leave in Redis for push servers."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from queue_run.contracts.envelopes import ApplicationChanged, decode
from queue_run.contracts.keys import Keys
from queue_run.contracts.manifest import Manifest, QueueFacts
from queue_run.settings import Settings
from queue_run.storage.clock import Clock
from tests.waiting import DEADLINE, eventually
from worker.announcer import Announcer

MANIFEST = Manifest(queues={"mail": QueueFacts()})


class Redis:
    """What is in Redis, as a test looks at it."""

    def __init__(self, url: str, namespace: str) -> None:
        self.keys = Keys(namespace)
        self.client: Any = redis.Redis.from_url(url)

    @property
    def manifest(self) -> bytes | None:
        data: bytes | None = self.client.get(self.keys.manifest)
        return data

    @property
    def alive(self) -> bool:
        return bool(self.client.exists(self.keys.socket_workers))

    @property
    def changes(self) -> list[str]:
        """Versions that push servers were told of."""
        envelopes = [decode(fields[b"e"]) for _, fields in self.client.xrange(self.keys.broadcast)]
        return [each.version for each in envelopes if isinstance(each, ApplicationChanged)]


@pytest.fixture
def settings(fake_redis_url: str, namespace: str) -> Settings:
    return Settings(redis_url=fake_redis_url, namespace=namespace, heartbeat_interval=0.02)


@pytest.fixture
def held(fake_redis_url: str, namespace: str) -> Iterator[Redis]:
    held = Redis(fake_redis_url, namespace)
    yield held
    held.client.close()


@contextlib.contextmanager
def announcing(
    settings: Settings,
    manifest: Manifest = MANIFEST,
    *,
    serves_sockets: bool = True,
    takes: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    announcer = Announcer(
        settings, manifest, serves_sockets=serves_sockets, clock=Clock(), name="one", takes=takes
    )
    announcer.start()
    try:
        yield
    finally:
        announcer.stop()


def test_a_worker_tells_what_it_offers_and_that_it_lives(settings: Settings, held: Redis) -> None:
    with announcing(settings):
        eventually(lambda: held.changes, what="the announcement")
        assert held.manifest == MANIFEST.encode()
        assert held.alive
    assert held.changes == [MANIFEST.version]


def test_its_sign_of_life_expires_without_it(settings: Settings, held: Redis) -> None:
    with announcing(settings):
        eventually(lambda: held.alive, what="the sign of life")
        assert 0 < held.client.ttl(held.keys.socket_workers) <= settings.heartbeat_expiry


def test_its_sign_of_life_is_renewed(settings: Settings, held: Redis) -> None:
    with announcing(settings):
        eventually(lambda: held.changes, what="the announcement")
        held.client.persist(held.keys.socket_workers)
        eventually(lambda: held.client.ttl(held.keys.socket_workers) > 0, what="the renewal")


def test_a_worker_of_jobs_alone_answers_no_requests(settings: Settings, held: Redis) -> None:
    with announcing(settings, serves_sockets=False):
        eventually(lambda: held.changes, what="the announcement")
    assert not held.alive
    assert held.manifest == MANIFEST.encode()


def test_a_manifest_that_redis_has_lost_is_announced_again(settings: Settings, held: Redis) -> None:
    with announcing(settings):
        eventually(lambda: held.changes, what="the announcement")
        held.client.delete(held.keys.manifest)
        eventually(lambda: len(held.changes) == 2, what="the second announcement")
    assert held.manifest == MANIFEST.encode()


def test_a_sign_of_life_that_was_lost_is_announced_again(settings: Settings, held: Redis) -> None:
    with announcing(settings):
        eventually(lambda: held.changes, what="the announcement")
        held.client.delete(held.keys.socket_workers)
        eventually(lambda: len(held.changes) == 2, what="the second announcement")
    assert held.alive


def test_a_newer_manifest_of_another_worker_stays(settings: Settings, held: Redis) -> None:
    newer = Manifest(queues={"mail": QueueFacts(), "report": QueueFacts()}).encode()
    with announcing(settings):
        eventually(lambda: held.changes, what="the announcement")
        held.client.set(held.keys.manifest, newer)
        held.client.persist(held.keys.socket_workers)
        eventually(lambda: held.client.ttl(held.keys.socket_workers) > 0, what="the renewal")
    assert held.manifest == newer
    assert len(held.changes) == 1


def test_without_redis_it_goes_on_trying_and_says_so_once(
    held: Redis, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(DEADLINE)
        nowhere = Settings(
            redis_url=f"redis://127.0.0.1:{listening.getsockname()[1]}/0", heartbeat_interval=0.02
        )
        with announcing(nowhere):
            # Some for each heartbeat.
            for _ in range(20):
                listening.accept()[0].close()
            listening.close()
    said = [line for line in caplog.messages if "could not tell push servers" in line]
    assert said
    assert len(said) == len(set(said))
    assert held.manifest is None


def test_a_worker_that_takes_nothing_gives_no_sign_of_life(
    settings: Settings, held: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    takes = True
    with announcing(settings, takes=lambda: takes):
        eventually(lambda: held.alive, what="a sign of life")
        takes = False
        eventually(lambda: "takes no requests" in caplog.text, what="a line in the log")
        held.client.delete(held.keys.socket_workers)
        # The manifest is renewed all the same.
        held.client.delete(held.keys.manifest)
        eventually(lambda: held.manifest, what="the manifest")
        assert not held.alive
        takes = True
        eventually(lambda: held.alive, what="a sign of life")
    assert "takes requests again" in caplog.text

"""What a push server knows of the application."""

import logging

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from push_server.requests.known_application import KnownApplication
from queue_run.contracts.manifest import Manifest, QueueFacts, RouteFacts
from tests.unit.push_server.building import INDEX, ManifestRedis, application

CHAT = RouteFacts(pattern="/chat", file="sockets/chat.py", timeout=2)
FIFO = QueueFacts(fifo=True)
MANIFEST = Manifest(
    routes=[INDEX, CHAT], authenticates=True, queues={"mail": QueueFacts(), "orders": FIFO}
).encode()


async def known(client: ManifestRedis) -> KnownApplication:
    made = application(client)
    await made.refresh()
    return made


def test_before_it_has_asked_it_knows_nothing() -> None:
    made = application(ManifestRedis(MANIFEST, workers=True))
    assert not made.known
    assert not made.available
    assert not made.authenticates
    assert made.route("/") is None
    assert made.queue("mail") is None


async def test_before_any_worker_has_started_nothing_is_known() -> None:
    made = await known(ManifestRedis())
    assert not made.known
    assert not made.available


async def test_the_manifest_tells_the_routes() -> None:
    made = await known(ManifestRedis(MANIFEST, workers=True))
    assert made.known
    assert made.available
    assert made.authenticates
    assert made.route("/chat") == CHAT
    assert made.route("/else") == INDEX


async def test_without_live_workers_it_is_known_and_not_available() -> None:
    made = await known(ManifestRedis(MANIFEST, workers=False))
    assert made.known
    assert made.authenticates
    assert not made.available
    assert made.route("/chat") is None


@pytest.mark.parametrize("workers", [True, False])
async def test_the_manifest_tells_the_queues_whether_workers_live_or_not(workers: bool) -> None:
    made = await known(ManifestRedis(MANIFEST, workers=workers))
    assert made.queue("mail") == QueueFacts()
    assert made.queue("orders") == FIFO
    assert made.queue("mial") is None


async def test_workers_without_a_manifest_make_nothing_available() -> None:
    made = await known(ManifestRedis(None, workers=True))
    assert not made.available


async def test_workers_that_come_back_make_it_available_again() -> None:
    client = ManifestRedis(MANIFEST, workers=False)
    made = await known(client)
    client.workers = True
    await made.refresh()
    assert made.route("/chat") == CHAT


async def test_a_new_manifest_takes_the_place_of_the_old() -> None:
    client = ManifestRedis(MANIFEST, workers=True)
    made = await known(client)
    client.manifest = Manifest(routes=[CHAT]).encode()
    await made.refresh()
    assert not made.authenticates
    assert made.route("/chat") == CHAT
    assert made.route("/else") is None


async def test_a_manifest_that_redis_has_lost_stays_known() -> None:
    client = ManifestRedis(MANIFEST, workers=True)
    made = await known(client)
    client.manifest = None
    await made.refresh()
    assert made.known
    assert made.route("/chat") == CHAT


@pytest.mark.parametrize(
    "unusable", [b"not json", b"[]", Manifest(routes=[CHAT, CHAT]).encode(), b'{"queues":"\xff"}']
)
async def test_a_manifest_that_cannot_be_used_changes_nothing(
    unusable: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = ManifestRedis(MANIFEST, workers=True)
    made = await known(client)
    client.manifest = unusable
    await made.refresh()
    assert "the manifest that workers left cannot be used" in caplog.text
    assert made.route("/chat") == CHAT


async def test_without_redis_what_was_known_stays() -> None:
    client = ManifestRedis(MANIFEST, workers=True)
    made = await known(client)
    client.failure = RedisConnectionError("gone")
    with pytest.raises(RedisConnectionError):
        await made.refresh()
    assert made.available
    assert made.route("/chat") == CHAT


async def test_workers_that_come_and_go_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    client = ManifestRedis(MANIFEST, workers=True)
    with caplog.at_level(logging.INFO):
        made = await known(client)
        await made.refresh()
        client.workers = False
        await made.refresh()
        await made.refresh()
    assert [each for each in caplog.messages if each.startswith("workers")] == [
        "workers are there",
        "workers are gone",
    ]


async def test_the_manifest_tells_whether_users_are_watched() -> None:
    assert not (await known(ManifestRedis(MANIFEST, workers=True))).watches_users
    watching = Manifest(watches_users=True).encode()
    assert (await known(ManifestRedis(watching, workers=False))).watches_users

"""The manifest: what push servers know of the application."""

import pytest

from queue_run.contracts.manifest import Manifest, QueueFacts, RouteFacts
from queue_run.errors import InvalidEnvelope

CHAT = RouteFacts(pattern="/chat/{room}", file="sockets/chat.py", timeout=2.5, ordered=False)
INDEX = RouteFacts(pattern="/", file="sockets/index.py", fallback=True, timeout=10.0)
QUEUES = {"mail": QueueFacts(), "report": QueueFacts(fifo=True, celery_queue="slow")}
MANIFEST = Manifest(routes=[CHAT, INDEX], authenticates=True, watches_users=True, queues=QUEUES)


def test_a_manifest_has_this_form_in_redis() -> None:
    assert MANIFEST.encode() == (
        b'{"routes":['
        b'{"pattern":"/chat/{room}","file":"sockets/chat.py","fallback":false,"timeout":2.5,'
        b'"ordered":false},'
        b'{"pattern":"/","file":"sockets/index.py","fallback":true,"timeout":10.0,"ordered":true}'
        b'],"authenticates":true,"watches_users":true,'
        b'"queues":{"mail":{},"report":{"fifo":true,"celery_queue":"slow"}}}'
    )


def test_a_manifest_comes_back_unchanged() -> None:
    assert Manifest.decode(MANIFEST.encode()) == MANIFEST


def test_an_empty_manifest_offers_nothing() -> None:
    empty = Manifest.decode(b"{}")
    assert empty == Manifest()
    assert empty.authenticates is False
    assert empty.watches_users is False
    assert empty.router().match("/") is None


def test_fields_of_a_later_version_are_passed_over() -> None:
    later = b'{"queues":{"mail":{"fifo":true,"priority":1}},"schedules":[1]}'
    assert Manifest.decode(later).queues == {"mail": QueueFacts(fifo=True)}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"{", b"null", b'{"routes":[{}]}', b'{"queues":[1]}', b'{"queues":"\xff"}'),
        b'{"queues":{"mail":null}}',
    ],
)
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidEnvelope):
        Manifest.decode(data)


def test_equal_manifests_have_equal_versions_and_others_do_not() -> None:
    assert Manifest.decode(MANIFEST.encode()).version == MANIFEST.version
    others = [Manifest(), Manifest(queues={"mail": QueueFacts()}), Manifest(queues=QUEUES)]
    assert len({MANIFEST.version, *(other.version for other in others)}) == 4


def test_routes_are_found_as_workers_find_them() -> None:
    router = MANIFEST.router()
    assert router.match("/chat/lobby") == (CHAT, {"room": "lobby"})
    assert router.match("/any/thing") == (INDEX, {})


def test_a_manifest_whose_routes_collide_makes_no_router() -> None:
    with pytest.raises(ValueError, match="taken already"):
        Manifest(routes=[INDEX, INDEX]).router()

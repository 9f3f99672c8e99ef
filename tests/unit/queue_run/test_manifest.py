"""The manifest: what push servers know of the application."""

import pytest

from queue_run.errors import InvalidEnvelope
from queue_run.manifest import Manifest, RouteFacts

CHAT = RouteFacts(pattern="/chat/{room}", file="sockets/chat.py", timeout=2.5, ordered=False)
INDEX = RouteFacts(pattern="/", file="sockets/index.py", fallback=True, timeout=10.0)
MANIFEST = Manifest(routes=[CHAT, INDEX], authenticates=True, queues=["mail", "report"])


def test_a_manifest_has_this_form_in_redis() -> None:
    assert MANIFEST.encode() == (
        b'{"routes":['
        b'{"pattern":"/chat/{room}","file":"sockets/chat.py","fallback":false,"timeout":2.5,'
        b'"ordered":false},'
        b'{"pattern":"/","file":"sockets/index.py","fallback":true,"timeout":10.0,"ordered":true}'
        b'],"authenticates":true,"queues":["mail","report"]}'
    )


def test_a_manifest_comes_back_unchanged() -> None:
    assert Manifest.decode(MANIFEST.encode()) == MANIFEST


def test_an_empty_manifest_offers_nothing() -> None:
    empty = Manifest.decode(b"{}")
    assert empty == Manifest()
    assert empty.authenticates is False
    assert empty.router().match("/") is None


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert Manifest.decode(b'{"queues":["mail"],"schedules":[1]}').queues == ["mail"]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"null", b'{"routes":[{}]}', b'{"queues":[1]}', b'{"queues":"\xff"}']
)
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidEnvelope):
        Manifest.decode(data)


def test_equal_manifests_have_equal_versions_and_others_do_not() -> None:
    assert Manifest.decode(MANIFEST.encode()).version == MANIFEST.version
    assert len({MANIFEST.version, Manifest().version, Manifest(queues=["mail"]).version}) == 3


def test_routes_are_found_as_workers_find_them() -> None:
    router = MANIFEST.router()
    assert router.match("/chat/lobby") == (CHAT, {"room": "lobby"})
    assert router.match("/any/thing") == (INDEX, {})


def test_a_manifest_whose_routes_collide_makes_no_router() -> None:
    with pytest.raises(ValueError, match="taken already"):
        Manifest(routes=[INDEX, INDEX]).router()

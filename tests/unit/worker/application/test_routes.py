"""The application's handlers, by route and by queue."""

import pytest

from queue_run.contracts.manifest import Manifest, QueueFacts, RouteFacts
from tests.unit.worker.building import hook, queue, route
from worker.application.routes import Routes


def handler(data: object) -> object:
    return data


CHAT = route(handler, "/chat/{room}", timeout=2.5, ordered=False)
INDEX = route(handler, "/")


def test_the_manifest_says_what_push_servers_need_to_know() -> None:
    routes = Routes(
        sockets=(CHAT, INDEX),
        queues={
            "report": queue(handler, "report", fifo=True, celery_queue="slow"),
            "mail": queue(handler, "mail"),
        },
        authenticate=hook(handler),
    )
    assert routes.manifest == Manifest(
        routes=[
            RouteFacts(
                pattern="/chat/{room}",
                file="sockets/chat/{room}.py",
                timeout=2.5,
                ordered=False,
            ),
            RouteFacts(pattern="/", file="sockets/.py", timeout=10.0),
        ],
        authenticates=True,
        queues={"mail": QueueFacts(), "report": QueueFacts(fifo=True, celery_queue="slow")},
    )


def test_without_on_authenticate_nobody_is_asked() -> None:
    assert not Routes().manifest.authenticates


def test_the_manifest_survives_its_way_through_redis() -> None:
    manifest = Routes(sockets=(CHAT, INDEX)).manifest
    assert Manifest.decode(manifest.encode()) == manifest


def test_a_path_finds_its_route() -> None:
    assert Routes(sockets=(CHAT, INDEX)).router().match("/chat/lobby") == (CHAT, {"room": "lobby"})


def test_routes_that_collide_make_no_router() -> None:
    with pytest.raises(ValueError, match="taken already"):
        Routes(sockets=(INDEX, INDEX)).router()


def test_requests_and_jobs_have_times_of_their_own() -> None:
    assert INDEX.timeout == 10.0
    assert queue(handler).timeout == 300.0


def test_a_job_has_one_attempt_more_than_retries() -> None:
    assert (queue(handler).attempts, queue(handler, retries=0).attempts) == (4, 1)


def test_an_application_with_one_of_the_two_hooks_watches_users() -> None:
    assert Routes(online=hook(handler)).manifest.watches_users
    assert Routes(offline=hook(handler)).manifest.watches_users
    assert not Routes().manifest.watches_users

"""Handlers, middleware, authentication and jobs, run as in a worker."""

from collections.abc import Iterator

import pytest

from queue_run import acting, queues
from queue_run.errors import ClientError, HandlerTimeout, Refuse
from queue_run.settings import Settings
from queue_run.testing import Application
from tests.conftest import WriteApp
from tests.unit.queue_run.testing.applications import AUTHENTICATED, ERRORS, HOOKS, told


def test_a_handler_sees_the_connection_its_path_and_its_query(write_app: WriteApp) -> None:
    handler = """
path = "/rooms/{room}"
def handler(request):
    return [request.connection, request.path, request.params, request.query, request.user]
"""
    app = Application(write_app({"sockets/room.py": handler}))
    with app.connected({"id": 7, "name": "Ann"}, path="/rooms/lobby", query={"a": "1"}) as client:
        client.send("")
        assert client.received == [
            [client.id, "/rooms/lobby", {"room": "lobby"}, {"a": "1"}, {"id": "7", "name": "Ann"}]
        ]


def test_a_path_without_a_handler_is_not_available(write_app: WriteApp) -> None:
    app = Application(write_app({"sockets/chat.py": "def handler(data): return data"}))
    with app.connected(path="/other") as client:
        client.send("hi")
        assert client.received == [{"error": "not available"}]


def test_data_is_validated_as_in_a_worker(write_app: WriteApp) -> None:
    handler = """
from typing import TypedDict

class Move(TypedDict):
    x: int

def handler(data: Move):
    return data["x"]
"""
    app = Application(write_app({"sockets/index.py": handler}))
    with app.connected() as client:
        client.send({"x": 1})
        client.send({"x": "one"})
        assert client.received == [1, {"error": "data.x: expected `int`, got `str`"}]


def test_an_error_is_received_and_its_exception_kept(write_app: WriteApp) -> None:
    with Application(write_app(ERRORS)) as app, app.connected() as client:
        client.send("client")
        client.send("other")
        assert client.received == [
            {"error": "say please"},
            {"error": f"internal error ({client.id}-3)"},
        ]
        assert [type(each) for each in client.errors] == [ClientError, LookupError]
        assert app.errors == client.errors


def test_settings_apply(write_app: WriteApp) -> None:
    app = Application(write_app(ERRORS), settings=Settings(expose_errors=True))
    with app.connected() as client:
        client.send("other")
        assert client.received == [{"error": "a secret"}]


def test_a_handler_that_takes_too_long_fails(write_app: WriteApp) -> None:
    handler = """
from queue_run import Config

config = Config(timeout=0.01)

def handler(signal):
    signal.wait(60)
"""
    with Application(write_app({"sockets/index.py": handler})) as app, app.connected() as client:
        client.send("go")
        assert client.received == [{"error": "no answer within 0.01 seconds"}]
        assert [type(each) for each in client.errors] == [HandlerTimeout]


def test_middleware_has_ended_when_send_returns(write_app: WriteApp) -> None:
    with Application(write_app(HOOKS)) as app, app.connected() as client:
        client.send("hi")
        assert told() == [("received", "hi"), ("sent", "hi")]
        client.send("bad")
        assert told()[2:] == [("received", "bad"), ("error", "received")]


def test_a_failure_of_on_message_sent_is_kept_and_breaks_nothing(write_app: WriteApp) -> None:
    with Application(write_app(HOOKS)) as app, app.connected() as client:
        client.send("sink")
        assert client.received == ["sink"]
        assert [str(each) for each in client.errors] == ["sent"]


@pytest.fixture
def authenticated(write_app: WriteApp) -> Iterator[Application]:
    with Application(write_app(AUTHENTICATED)) as app:
        yield app


def test_the_application_authenticates_a_client_without_a_given_user(
    authenticated: Application,
) -> None:
    app = authenticated
    with (
        app.connected(cookies={"a": "b", "token": "ann"}, remote_ip="10.0.0.1") as by_cookie,
        app.connected(headers={"Authorization": "Bearer bob"}) as by_header,
        app.connected(query="token=eve") as by_query,
    ):
        assert by_cookie.user == {"id": "ann", "ip": "10.0.0.1"}
        assert by_cookie.expires == 2e9
        assert (by_header.user_id, by_query.user_id) == ("bob", "eve")
        by_cookie.send("who am I")
        assert by_cookie.received == [by_cookie.user]


def test_a_given_user_is_not_asked_for_anything(authenticated: Application) -> None:
    with authenticated.connected(user=None) as client:
        assert client.user is None
        client.send("who am I")
        assert client.received == []


def test_a_refusal_is_raised(authenticated: Application) -> None:
    with pytest.raises(Refuse, match="not you") as refused:
        authenticated.connected(query={"token": "wrong"}).__enter__()
    assert refused.value.status == 403


def test_a_failure_to_authenticate_refuses_with_500(authenticated: Application) -> None:
    with pytest.raises(Refuse) as refused:
        authenticated.connected(path="/broken").__enter__()
    assert refused.value.status == 500
    assert isinstance(refused.value.__cause__, LookupError)
    authenticated.raise_errors = True
    with pytest.raises(LookupError, match="no database"):
        authenticated.connected(path="/broken").__enter__()


def test_a_client_that_is_asked_for_its_token_sends_it_first(authenticated: Application) -> None:
    with authenticated.connected() as client:
        assert client.user is None
        assert not client.is_open
        client.send({"token": "ann"})
        assert client.user_id == "ann"
        assert client.received == []
        client.send("who am I")
        assert client.received == [{"id": "ann", "ip": "127.0.0.1"}]


@pytest.mark.parametrize(("first", "reason"), [({"token": "wrong"}, "not you"), ("hi", "no token")])
def test_a_first_message_that_is_refused_closes_the_connection(
    authenticated: Application, first: object, reason: str
) -> None:
    with authenticated.connected() as client:
        client.send(first)
        assert client.closed == (4401, reason)


def test_an_authentication_that_takes_too_long_is_refused(write_app: WriteApp) -> None:
    hanging = """
import asyncio
async def on_authenticate(request): await asyncio.Event().wait()
def handler(): pass
"""
    app = Application(
        write_app({"sockets/index.py": hanging}), settings=Settings(authenticate_timeout=0.01)
    )
    with pytest.raises(Refuse) as refused, app.connected():
        pass
    assert refused.value.status == 503


@pytest.mark.parametrize("handler", ["def handler(job):", "async def handler(job):"])
def test_a_job_that_fails_raises_in_the_test(write_app: WriteApp, handler: str) -> None:
    files = {
        "queues/fails.py": f"{handler}\n    raise LookupError(job)",
        "queues/exits.py": f"import sys\n{handler}\n    sys.exit(3)",
    }
    with Application(write_app(files)) as app:
        queues.get("fails").push("first")
        queues.get("fails").push("second")
        with pytest.raises(LookupError, match="first"):
            app.run_jobs()
        with pytest.raises(LookupError, match="second"):
            app.run_jobs()
        assert [str(each) for each in app.errors] == ["first", "second"]
        with pytest.raises(RuntimeError, match=r"sys\.exit\(3\)"):
            app.run_job("exits", None)


@pytest.mark.parametrize(
    "handler",
    [
        "def handler(job, *, signal): signal.wait(60)",
        "import asyncio\nasync def handler(job): await asyncio.Event().wait()",
    ],
)
def test_a_job_that_takes_too_long_is_stopped(write_app: WriteApp, handler: str) -> None:
    config = "from queue_run import Config\nconfig = Config(timeout=0.01)"
    with (
        Application(write_app({"queues/slow.py": f"{config}\n{handler}"})) as app,
        pytest.raises(HandlerTimeout),
    ):
        app.run_job("slow", None)


def test_handlers_do_not_act_for_the_user_of_the_test(write_app: WriteApp) -> None:
    handler = "from queue_run import context\nasync def on_authenticate(request):\n"
    handler += "    return {'id': 'x', 'call': context.current()}\ndef handler(user): return user"
    with (
        Application(write_app({"sockets/index.py": handler})) as app,
        acting.as_user("ann"),
        app.connected() as client,
    ):
        assert client.user == {"id": "x", "call": None}


@pytest.mark.parametrize("handler", ["def handler(job):", "async def handler(job):"])
async def test_a_job_that_exits_does_not_end_an_asynchronous_test(
    write_app: WriteApp, handler: str
) -> None:
    files = {"queues/exits.py": f"import sys\n{handler}\n    sys.exit(3)"}
    async with Application(write_app(files)) as app:
        with pytest.raises(RuntimeError, match=r"sys\.exit\(3\)"):
            await app.run_job_async("exits", None)

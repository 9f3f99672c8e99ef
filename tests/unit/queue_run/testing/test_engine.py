"""Handlers, middleware, authentication and jobs, run as in a worker."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from queue_run import queues
from queue_run.errors import ClientError, HandlerTimeout, InvalidPush, Refuse
from queue_run.process import acting
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
    handler = "from queue_run.process import context\nasync def on_authenticate(request):\n"
    handler += "    return {'id': 'x', 'call': context.current()}\ndef handler(user): return user"
    with (
        Application(write_app({"sockets/index.py": handler})) as app,
        acting.as_user("ann"),
        app.connected() as client,
    ):
        assert client.user == {"id": "x", "call": None}


# Middleware around jobs

#: Hooks in the flavour that `define` says.
AROUND = """
from queue_run import Config, socket

told = []

{define} on_job_started(job):
    told.append(("started", job.payload, job.attempt))
    if job.payload == "refuse":
        raise PermissionError("refused")

{define} on_job_finished(job):
    told.append(("finished", job.payload))
    socket.send("finished " + job.payload)
    if job.payload == "sink":
        raise ValueError("after all")

{define} on_error(error, job):
    told.append(("error", str(error), job.job_id, job.file))
    socket.send("failed " + str(job.payload))
"""
FLAVOURS = [(hooks, handler) for hooks in ("def", "async def") for handler in ("def", "async def")]


@pytest.fixture(params=FLAVOURS, ids=" hooks, ".join)
def around(request: pytest.FixtureRequest, write_app: WriteApp) -> Iterator[Application]:
    hooks, handler = request.param
    files = {
        "queues/_middleware.py": AROUND.format(define=hooks),
        "queues/work.py": f"""
from queues import _middleware

{handler} handler(job: str):
    _middleware.told.append(("ran", job))
    if job == "fail":
        raise LookupError("failed")
""",
    }
    with Application(write_app(files)) as app:
        yield app


def job_hooks() -> list[Any]:
    found: list[Any] = import_module("queues._middleware").told
    return found


def test_middleware_runs_around_a_job(around: Application) -> None:
    with around.connected("ann") as ann:
        around.run_job("work", "go", user="ann", attempt=2)
        assert job_hooks() == [("started", "go", 2), ("ran", "go"), ("finished", "go")]
        assert ann.received == ["finished go"]
    assert around.errors == []


def test_middleware_is_told_of_a_job_that_fails(around: Application) -> None:
    with around.connected("ann") as ann:
        with acting.as_user("ann"):
            job_id = queues.get("work").push("fail")
        with pytest.raises(LookupError):
            around.run_jobs()
        assert job_hooks()[1:] == [("ran", "fail"), ("error", "failed", job_id, "queues/work.py")]
        assert ann.received == ["failed fail"]
    assert [str(each) for each in around.errors] == ["failed"]


def test_middleware_that_raises_beforehand_keeps_a_job_from_running(around: Application) -> None:
    with pytest.raises(PermissionError):
        around.run_job("work", "refuse", user="ann")
    assert [each[:2] for each in job_hooks()] == [("started", "refuse"), ("error", "refused")]


def test_middleware_that_raises_afterwards_does_not_undo_a_job(around: Application) -> None:
    around.run_job("work", "sink", user="ann")
    assert [each[0] for each in job_hooks()] == ["started", "ran", "finished", "error"]
    assert [str(each) for each in around.errors] == ["after all"]


def test_a_payload_is_checked_when_a_job_runs(around: Application) -> None:
    with pytest.raises(InvalidPush, match="expected `str`, got `int`"):
        around.run_job("work", 1, user="ann")
    assert [each[0] for each in job_hooks()] == ["started", "error"]


async def test_middleware_runs_around_jobs_in_asynchronous_tests(around: Application) -> None:
    await around.run_job_async("work", "go", user="ann")
    with pytest.raises(LookupError):
        await around.run_job_async("work", "fail", user="ann")
    names = [each[0] for each in job_hooks()]
    assert names == ["started", "ran", "finished", "started", "ran", "error"]


@pytest.mark.parametrize("silenced", ["on_error = None", "def on_error(error, job): 1 / 0"])
def test_what_fails_is_kept_whatever_on_error_does(write_app: WriteApp, silenced: str) -> None:
    handler = f"""
{silenced}

def on_job_finished(job):
    raise ValueError("after all")

def handler(job):
    if job:
        raise LookupError("failed")
"""
    with Application(write_app({"queues/work.py": handler})) as app:
        app.run_job("work", 0)
        with pytest.raises(LookupError):
            app.run_job("work", 1)
        assert [str(each) for each in app.errors] == ["after all", "failed"]


@pytest.mark.parametrize("define", ["def", "async def"])
def test_a_job_that_takes_too_long_has_not_finished(write_app: WriteApp, define: str) -> None:
    handler = f"""
import threading
from queue_run import Config

config = Config(timeout=0.01)
told = []
returns = threading.Event()

def on_job_started(job): told.append("started")
{define} on_job_finished(job): told.append("finished")
def on_error(error, job): told.append(str(error))

def handler(job, *, signal):
    signal.wait(60)
    returns.set()
"""
    with Application(write_app({"queues/slow.py": handler})) as app:
        with pytest.raises(HandlerTimeout):
            app.run_job("slow", None)
        slow = import_module("queues.slow")
        assert slow.returns.wait(60)
    # The thread of the job has ended with the application.
    assert slow.told == ["started", "no answer within 0.01 seconds"]


@pytest.mark.parametrize("define", ["def", "async def"])
def test_a_job_that_is_cancelled_may_still_finish(write_app: WriteApp, define: str) -> None:
    handler = f"""
from queue_run import queues

told = []

def on_job_finished(job): told.append(job.signal.is_set())

{define} handler(job, *, job_id):
    queues.cancel(job_id)
    return job
"""
    with Application(write_app({"queues/work.py": handler})) as app:
        assert app.run_job("work", "go") == "go"
        assert import_module("queues.work").told == [True]


async def test_a_plain_job_may_return_what_is_to_be_awaited(write_app: WriteApp) -> None:
    handler = """
import asyncio
import sys

async def work(job):
    await asyncio.sleep(0)
    if job == "exit":
        sys.exit(3)
    return job

def handler(job):
    return work(job)
"""
    async with Application(write_app({"queues/work.py": handler})) as app:
        assert await app.run_job_async("work", "go") == "go"
        with pytest.raises(RuntimeError, match=r"sys\.exit\(3\)"):
            await app.run_job_async("work", "exit")
        assert await app.run_job_async("work", "again") == "again"


async def test_what_a_job_has_cancelled_does_not_look_like_the_end_of_the_test(
    write_app: WriteApp,
) -> None:
    handler = """
import asyncio

async def handler(job):
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task
"""
    async with Application(write_app({"queues/work.py": handler})) as app:
        with pytest.raises(RuntimeError, match="CancelledError"):
            await app.run_job_async("work", 1)


@pytest.mark.parametrize("handler", ["def handler(job):", "async def handler(job):"])
async def test_a_job_that_exits_does_not_end_an_asynchronous_test(
    write_app: WriteApp, handler: str
) -> None:
    files = {"queues/exits.py": f"import sys\n{handler}\n    sys.exit(3)"}
    async with Application(write_app(files)) as app:
        with pytest.raises(RuntimeError, match=r"sys\.exit\(3\)"):
            await app.run_job_async("exits", None)

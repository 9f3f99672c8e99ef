"""An application as a test uses it."""

import threading
import time

import pytest

from queue_run import queues, socket
from queue_run.errors import ApplicationError, Refuse
from queue_run.testing import Application, Disconnected, connected
from tests.conftest import WriteApp
from tests.unit.queue_run.testing.applications import AUTHENTICATED, ECHO, ERRORS, HOOKS, JOBS, told


def test_a_client_gets_what_its_handler_returns(echo: Application) -> None:
    with echo.connected(user="ann") as client:
        client.send({"text": "hi"})
        assert client.received == [{"echo": {"text": "hi"}}]


def test_with_raise_errors_send_raises_what_the_handler_raised(write_app: WriteApp) -> None:
    app = Application(write_app(ERRORS), raise_errors=True)
    with app.connected() as client:
        with pytest.raises(LookupError, match="a secret"):
            client.send("other")
        assert [list(each) for each in client.received] == [["error"]]


def test_a_given_user_needs_an_id(echo: Application) -> None:
    with pytest.raises(TypeError, match="id"):
        echo.connected(user={"name": "Ann"})


def test_what_workers_refuse_to_load_is_refused_here_too(write_app: WriteApp) -> None:
    config = "from queue_run import Config\nconfig = Config(celery_queue='unacked')\n"
    app = write_app({"queues/mail.py": f"{config}def handler(job): pass\n"})
    with (
        pytest.raises(ApplicationError, match=r'queues/mail\.py: .*celery_queue is not "unacked"'),
        Application(app),
    ):
        pass


def test_clear_forgets_what_was_noted(jobs: Application) -> None:
    socket.to("ann").send("hi")
    queues.get("mail").push(1)
    with pytest.raises(TypeError):
        jobs.run_job("mail", None)
    assert jobs.sent
    assert jobs.pushed
    assert jobs.errors
    jobs.clear()
    assert (jobs.sent, jobs.pushed, jobs.errors, jobs.run_jobs()) == ([], [], [], [])


def test_connected_finds_the_application_in_the_working_directory(
    write_app: WriteApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_app(ECHO))
    with connected(user="ann") as ann, connected(user="bob") as bob:
        assert ann.app is bob.app
        socket.to("bob").send("hi")
        bob.send(1)
        assert bob.received == ["hi", {"echo": 1}]
    assert not ann.app.is_open


def test_an_application_that_is_not_open_runs_no_jobs(write_app: WriteApp) -> None:
    app = Application(write_app(JOBS))
    with pytest.raises(RuntimeError, match="not open"):
        app.run_jobs()
    with app, pytest.raises(RuntimeError, match="open already"):
        app.__enter__()


async def test_asynchronous_clients_authenticate_and_are_refused(write_app: WriteApp) -> None:
    async with Application(write_app(AUTHENTICATED)) as app:
        async with app.connected() as client:
            await client.send({"token": "ann"})
            assert client.user_id == "ann"
        with pytest.raises(Refuse):
            async with app.connected(query="token=wrong"):
                pass


async def test_asynchronous_clients_see_errors_and_middleware(write_app: WriteApp) -> None:
    app = Application(write_app(HOOKS), raise_errors=True)
    async with app.connected("ann") as client:
        await client.send("hi")
        assert told() == [("received", "hi"), ("sent", "hi")]
        with pytest.raises(ValueError, match="received"):
            await client.send("bad")
        assert client.received[0] == "hi"
        await app.run_job_async("loud", "from a job")
        assert told()[-1] == ("sent", "from a job")
    assert not app.is_open


def test_a_test_of_an_application_takes_a_few_milliseconds(write_app: WriteApp) -> None:
    folder = write_app(ECHO)
    took = []
    for _ in range(5):
        begin = time.process_time()
        with Application(folder).connected(user="ann") as client:
            client.send("hi")
        took.append(time.process_time() - begin)
    # The best of a few, in the time of this process alone: the machine may be busy.
    assert min(took) < 0.05


def test_a_client_of_a_closed_application_starts_nothing(write_app: WriteApp) -> None:
    with Application(write_app(ECHO)) as app, app.connected() as client:
        pass
    threads = set(threading.enumerate())
    with pytest.raises(Disconnected):
        client.send("hi")
    assert set(threading.enumerate()) == threads


# Who is online

PRESENCE = {
    "sockets/_middleware.py": """
from queue_run import socket

told = []

def on_authenticate(request):
    return {"id": request.query["user"]} if "user" in request.query else None

async def on_online(user_id):
    told.append(f"+{user_id}")
    await socket.to("boss").send({"came": user_id})

def on_offline(user_id):
    told.append(f"-{user_id}")
    if user_id == "broken":
        raise LookupError(user_id)
""",
    "sockets/index.py": """
from queue_run import socket
from sockets import _middleware

async def handler(data):
    if data == "told":
        return list(_middleware.told)
    if data == "leave":
        await socket.close()
    elif data == "who":
        return await socket.online(["bob", "ann", "carl"])
""",
}


def test_the_application_is_told_who_comes_and_goes(write_app: WriteApp) -> None:
    with Application(write_app(PRESENCE)) as app, app.connected(user="boss") as boss:
        with app.connected(user="ann"), app.connected(query="user=ann"), app.connected():
            assert boss.received == [{"came": "boss"}, {"came": "ann"}]
            assert socket.is_online("ann")
        assert not socket.is_online("ann")
        boss.send("told")
        assert boss.received[-1] == ["+boss", "+ann", "-ann"]


def test_a_user_whose_connection_is_closed_has_gone(write_app: WriteApp) -> None:
    with (
        Application(write_app(PRESENCE)) as app,
        app.connected(user="boss") as boss,
        app.connected(user="ann") as ann,
    ):
        ann.send("leave")
        boss.send("told")
        assert boss.received[-1] == ["+boss", "+ann", "-ann"]


def test_a_failure_of_on_offline_is_noted(write_app: WriteApp) -> None:
    with Application(write_app(PRESENCE)) as app:
        with app.connected(user="broken"):
            assert app.errors == []
        assert [str(error) for error in app.errors] == ["broken"]


def test_a_receipt_tells_how_many_are_online(echo: Application) -> None:
    with echo.connected(user="ann"), echo.connected(user="ann"), echo.connected():
        assert socket.to(["ann", "bob"]).send("hi").value.online == 1
        assert socket.to("bob").send("hi").value.online == 0
        assert socket.room("lobby").send("hi").value.online is None
        assert socket.online(["bob", "ann"]).value == ["ann"]


async def test_in_asynchronous_tests_too(write_app: WriteApp) -> None:
    async with Application(write_app(PRESENCE)) as app, app.connected(user="ann") as ann:
        assert ann.received == []
        async with app.connected(user="bob"):
            await ann.send("who")
            assert ann.received == [["bob", "ann"]]
            assert await socket.is_online("bob")
            assert (await socket.to(["ann", "bob"]).send("hi")).online == 2
        await ann.send("told")
        assert ann.received[-1] == ["+ann", "+bob", "-bob"]

"""On which loops and threads handlers run, and what is left of them."""

import asyncio
import sys
import threading
from importlib import import_module

import pytest

from queue_run import socket
from queue_run.process import runtime
from queue_run.testing import Application
from tests.conftest import WriteApp
from tests.unit.queue_run.testing.applications import HOOKS, JOBS, told


@pytest.mark.parametrize("ordered", [True, False])
def test_only_unordered_requests_of_one_client_run_side_by_side(
    write_app: WriteApp, ordered: bool
) -> None:
    handler = f"""
import threading
from queue_run import Config

config = Config(ordered={ordered})
both = threading.Barrier(2)

def handler():
    both.wait({0.05 if ordered else 5})
    return "together"
"""
    with Application(write_app({"sockets/index.py": handler})) as app, app.connected() as client:
        threads = [threading.Thread(target=client.send, args=["go"]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (client.received == ["together", "together"]) is not ordered
        assert len(client.errors) == (2 if ordered else 0)


async def test_requests_at_once_take_turns(write_app: WriteApp) -> None:
    handler = """
import asyncio
inside = 0
async def handler(data):
    global inside
    inside += 1
    await asyncio.sleep(0)
    inside -= 1
    return [data, inside]
"""
    async with Application(write_app({"sockets/index.py": handler})).connected() as client:
        await asyncio.gather(*(client.send(number) for number in range(3)))
        assert client.received == [[0, 0], [1, 0], [2, 0]]


def test_middleware_hears_of_what_jobs_and_code_outside_send(write_app: WriteApp) -> None:
    with Application(write_app(HOOKS)) as app:
        app.run_job("loud", "from a job")
        assert told() == [("sent", "from a job")]
        socket.to("ann").send("from a view")
        assert told()[1:] == [("sent", "from a view")]


async def test_an_asynchronous_client_runs_handlers_on_the_loop_of_the_test(
    write_app: WriteApp,
) -> None:
    handler = "import asyncio\nasync def handler(): return id(asyncio.get_running_loop())"
    async with (
        Application(write_app({"sockets/index.py": handler})) as app,
        app.connected(user="ann") as client,
    ):
        await client.send("go")
        assert client.received == [id(asyncio.get_running_loop())]


async def test_both_flavours_meet_in_one_application(write_app: WriteApp) -> None:
    handler = "from queue_run import socket\ndef handler(data): socket.to('ann').send(data)"
    with Application(write_app({"sockets/index.py": handler})) as app:
        async with app.connected("ann") as ann:
            with app.connected("bob") as bob:
                bob.send("from bob")
                await ann.send("from ann")
                assert ann.received == ["from bob", "from ann"]


def test_nothing_is_left_after_an_application(write_app: WriteApp, no_runtime: None) -> None:
    handler = """
import asyncio
import threading

async def handler(data):
    # Still runs when the application is closed.
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, 0.05)
    return await asyncio.to_thread(str, data)
"""
    folder = write_app(
        {**JOBS, "sockets/index.py": handler, "sockets/plain.py": "def handler(): 0"}
    )
    modules, path, threads = set(sys.modules), list(sys.path), set(threading.enumerate())
    with Application(folder) as app, app.connected() as client, app.connected(path="/plain") as two:
        client.send(1)
        two.send(1)
        assert len(set(threading.enumerate()) - threads) >= 3
        assert "sockets.plain" in sys.modules
    assert client.received == ["1"]
    assert runtime._current is None
    assert sys.path == path
    assert set(threading.enumerate()) == threads
    left = {each.partition(".")[0] for each in set(sys.modules) - modules}
    assert not left & {"sockets", "queues"}


def test_a_handler_that_hangs_does_not_keep_the_test_from_ending(
    write_app: WriteApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.testing.stage.THREADS_END", 0.01)
    handler = """
import threading
from queue_run import Config

config = Config(timeout=0.01)
free = threading.Event()

def handler(data):
    free.wait(60)
"""
    with Application(write_app({"sockets/index.py": handler})) as app, app.connected() as client:
        client.send("go")
        index = import_module("sockets.index")
    index.free.set()
    assert [list(each) for each in client.received] == [["error"]]

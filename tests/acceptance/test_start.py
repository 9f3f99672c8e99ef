"""`queue-run start` as a whole: a Procfile's processes serve, are replaced one by one, and stop."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import Client, connected
from tests.conftest import NewStack, WriteApp, new_namespace, write_files
from tests.processes import (
    PATIENT,
    ROOT,
    Process,
    PushServerProcess,
    RedisServer,
    environment,
    free_port,
)
from tests.unit.cli.running import descendants, processes
from tests.waiting import eventually, eventually_async

VERSION = "async def handler(data):\n    return {{'version': {}, 'n': data}}\n"
SLOW = (
    "import asyncio\n\nasync def handler(data):\n"
    "    print('handler runs', flush=True)\n    await asyncio.sleep(2)\n    return 'late'\n"
)
TICK = (
    "from queue_run import Config\nconfig = Config(schedule='every second')\n\n"
    "def handler(job):\n    print('tick runs', flush=True)\n"
)
DONE = "rolling restart: done"
STOPPING = "stopping (a second signal kills at once)"


class Production(Process):
    """The repository's Procfile, run for one application."""

    def __init__(self, app: Path, processes: str, **variables: str) -> None:
        self.app = app
        self.port = int(variables.get("PORT", "0"))
        command = [sys.executable, "-m", "queue_run", "start", str(ROOT / "Procfile")]
        super().__init__(
            [*command, "--processes", processes], environ=environment(**variables), cwd=app
        )

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}"
            return PushServerProcess.get_from(url, "/readyz")[0] == 200
        except OSError:
            return False  # It does not listen yet.

    def wait_until_ready(self) -> "Production":
        eventually(self.is_ready, what="the first answer")
        return self

    def restart(self, *, times: int = 1) -> None:
        """Ask for a rolling restart; wait until so many were done."""
        self.send(signal.SIGHUP)
        eventually(lambda: self.output.count(DONE) == times, what="its end", deadline=180)

    def find(self, text: str) -> set[int]:
        """The processes that have this in their command, without the shells around them."""
        return {
            each.pid
            for each in descendants(self.pid)
            if text in each.command and "/sh -c" not in each.command
        }

    def stop(self) -> None:
        """SIGTERM: it ends well, and leaves no process."""
        pids = {each.pid for each in descendants(self.pid)}
        self.send(signal.SIGTERM)
        assert self.wait() == 0
        assert "killed" not in self.output.partition(STOPPING)[2]
        eventually(lambda: not pids & {each.pid for each in processes()}, what="the end of all")


@pytest.fixture
def production(redis_server: RedisServer) -> Iterator[Callable[..., Production]]:
    started: list[Production] = []

    def start(app: Path, processes: str, **variables: str) -> Production:
        own = {
            "REDIS_URL": redis_server.url,
            "QUEUE_RUN_HOST": "127.0.0.1",
            "QUEUE_RUN_NAMESPACE": new_namespace(),
            **PATIENT,
            **variables,
        }
        started.append(Production(app, processes, **own))
        return started[-1]

    yield start
    for each in started:
        print(each.output)  # noqa: T201
        each.end()


async def test_workers_are_replaced_under_clients_that_keep_their_connection(
    production: Callable[..., Production],
    redis_server: RedisServer,
    new_stack: NewStack,
    write_app: WriteApp,
) -> None:
    """As on a host of its own for workers: the push server runs elsewhere."""
    app = write_app({"sockets/index.py": VERSION.format(1)})
    stack = new_stack(redis_server, app)
    server = stack.push_server()
    session = production(app, "web=0,worker=2,jobs=0", QUEUE_RUN_NAMESPACE=stack.namespace)
    await asyncio.to_thread(server.wait_until_ready)
    await eventually_async(lambda: session.output.count("ready.") == 2, what="both workers")
    before = session.find("sockets-")
    assert len(before) == 2
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        askers = [group.create_task(ask_until(stop, stack.ws())) for _ in range(5)]
        write_files(app, {"sockets/index.py": VERSION.format(2)})
        await asyncio.to_thread(session.restart)
        stop.set()
    for asker in askers:
        versions, last = asker.result()
        assert len(versions) > 5
        assert set(versions) == {1, 2}
        assert last == 2
    assert not before & session.find("sockets-")
    assert "Duplicate" not in session.output
    await asyncio.to_thread(session.stop)


async def ask_until(stop: asyncio.Event, url: str) -> tuple[list[int], int]:
    """The versions that answered on one connection, and the one that did after the end."""
    async with connected(url) as client:
        n, versions = 0, []
        while not stop.is_set():
            n += 1
            versions.append(await version_of(client, n))
            await asyncio.sleep(0.01)
        return versions, await version_of(client, n + 1)


async def version_of(client: Client, n: int) -> int:
    answer: Any = await client.ask(n)
    assert answer.keys() == {"version", "n"}, answer
    assert answer["n"] == n
    version: int = answer["version"]
    return version


@pytest.mark.parametrize("web", [1, 2])
async def test_a_rolling_restart_replaces_every_process_and_the_port_answers_again(
    production: Callable[..., Production], write_app: WriteApp, web: int
) -> None:
    app = write_app({"sockets/index.py": VERSION.format(1), "queues/tick.py": TICK})
    session = production(app, f"web={web}", PORT=str(free_port()))
    await asyncio.to_thread(session.wait_until_ready)
    await asyncio.to_thread(session.wait_for_output, "tick runs")
    parts = ("push_server", "sockets-", "jobs-", "beat")
    before = {part: session.find(part) for part in parts}
    assert len(before["push_server"]) == web
    async with connected(session.ws) as client:
        assert await client.ask(1) == {"version": 1, "n": 1}
        write_files(app, {"sockets/index.py": VERSION.format(2)})
        await asyncio.to_thread(session.restart)
        assert await client.closed() == (1001, "the server is shutting down")
    async with connected(session.ws) as client:
        assert await client.ask(2) == {"version": 2, "n": 2}
    for part in parts:
        assert not before[part] & session.find(part), part
    ticks = session.output.count("tick runs")
    await eventually_async(lambda: session.output.count("tick runs") > ticks, what="beat, again")
    # And once more: the names of the first ones are free again.
    await asyncio.to_thread(session.restart, times=2)
    async with connected(session.ws) as client:
        assert await client.ask(3) == {"version": 2, "n": 3}
    await asyncio.to_thread(session.stop)


async def test_a_version_that_does_not_load_leaves_the_old_workers_alone(
    production: Callable[..., Production], write_app: WriteApp
) -> None:
    app = write_app({"sockets/index.py": VERSION.format(1)})
    session = production(app, "worker=1,jobs=0,beat=0", PORT=str(free_port()))
    await asyncio.to_thread(session.wait_until_ready)
    async with connected(session.ws) as client:
        write_files(app, {"sockets/index.py": "def handler(:\n"})
        session.send(signal.SIGHUP)
        await asyncio.to_thread(session.wait_for_output, "the rolling restart has ended there")
        assert "sockets/index.py: line 1: invalid syntax" in session.output
        assert "the new worker.1 has ended (exit code 2, see above): the old one stays" in (
            session.output
        )
        assert await client.ask(1) == {"version": 1, "n": 1}
        write_files(app, {"sockets/index.py": VERSION.format(2)})
        await asyncio.to_thread(session.restart)
    async with connected(session.ws) as client:
        assert await client.ask(2) == {"version": 2, "n": 2}


async def test_the_end_waits_for_what_clients_have_asked(
    production: Callable[..., Production], write_app: WriteApp
) -> None:
    app = write_app({"sockets/index.py": SLOW})
    session = production(app, "worker=2,jobs=0,beat=0", PORT=str(free_port()))
    await asyncio.to_thread(session.wait_until_ready)
    async with connected(session.ws) as client:
        # The second is still with the push server when the signal comes, and needs a worker then.
        await client.send(1)
        await client.send(2)
        await eventually_async(lambda: "handler runs" in session.output, what="the handler")
        stopping = asyncio.create_task(asyncio.to_thread(session.stop))
        assert await client.receive() == "late"
        assert await client.receive() == "late"
        assert await client.closed() == (1001, "the server is shutting down")
        await stopping


def test_a_process_that_is_killed_is_started_again(
    production: Callable[..., Production], write_app: WriteApp
) -> None:
    app = write_app({"sockets/index.py": VERSION.format(1)})
    session = production(app, "jobs=0,beat=0", PORT=str(free_port())).wait_until_ready()
    [killed] = session.find("push_server")
    os.kill(killed, signal.SIGKILL)
    session.wait_for_output("it starts again in 0.5 s")
    session.wait_until_ready()
    assert session.find("push_server") not in (set(), {killed})


def test_the_death_of_the_command_leaves_no_process(
    production: Callable[..., Production], write_app: WriteApp
) -> None:
    app = write_app({"sockets/index.py": VERSION.format(1)})
    session = production(app, "jobs=0,beat=0", PORT=str(free_port())).wait_until_ready()
    pids = {each.pid for each in descendants(session.pid)}
    session.send(signal.SIGKILL)
    session.wait()
    eventually(lambda: not pids & {each.pid for each in processes()}, what="the end of all")

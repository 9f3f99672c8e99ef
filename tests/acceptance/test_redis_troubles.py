"""A Redis that answers, and not as it should, for some seconds: everybody waits and goes on."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis, RedisError

from tests.acceptance.test_failover import APP, JOBS, all_are_answered, all_go_on
from tests.acceptance.test_silent_links import asking
from tests.conftest import new_namespace, write_files
from tests.processes import RedisServer, Stack
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)

#: Seconds for which it goes on, more than any answer may take.
LASTS = 4.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    found = RedisServer(append_only=True)
    yield found
    found.end()


@pytest.fixture(scope="module")
def stack(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A push server, and a worker of each of two pools, for all troubles one after another."""
    app = write_files(tmp_path_factory.mktemp("troubles") / "app", APP)
    stack = Stack(server.url, app, new_namespace(), QUEUE_RUN_DEADLINE_GRACE="2")
    stack.push_server()
    stack.worker("-P", "solo")
    stack.worker("-P", "prefork", "-c", "2")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


Trouble = Callable[[RedisServer, Redis], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def unblocked(server: RedisServer, admin: Redis) -> Iterator[None]:
    """Whoever waits for something is told an error."""
    clients: Any = admin.client_list()
    waiting = [client["id"] for client in clients if "b" in client["flags"]]
    assert waiting
    for each in waiting:
        admin.client_unblock(each, error=True)
    yield


@contextlib.contextmanager
def killed(server: RedisServer, admin: Redis) -> Iterator[None]:
    """All links end."""
    assert admin.client_kill_filter(_type="normal", skipme=True)
    yield


@contextlib.contextmanager
def paused(server: RedisServer, admin: Redis) -> Iterator[None]:
    """No link gets an answer."""
    admin.client_pause(round(LASTS * 1000))
    yield


@contextlib.contextmanager
def paused_writes(server: RedisServer, admin: Redis) -> Iterator[None]:
    """No write gets an answer."""
    admin.client_pause(round(LASTS * 1000), all=False)
    yield


@contextlib.contextmanager
def unsaved(server: RedisServer, admin: Redis) -> Iterator[None]:
    """It could not write its snapshot, and takes no writes until it can."""
    admin.config_set("save", "3600 1")
    admin.config_set("rdb-key-save-delay", 1_000_000)
    admin.bgsave()
    [child] = eventually(lambda: server.process.children, what="the process that saves")
    os.kill(child, signal.SIGKILL)
    eventually(lambda: _saved(admin) == "err", what="a snapshot that failed")
    with pytest.raises(RedisError, match="RDB snapshots"):
        admin.set("anything", 1)
    yield
    admin.config_set("rdb-key-save-delay", 0)
    admin.bgsave()
    eventually(lambda: _saved(admin) == "ok", what="a snapshot")
    admin.config_set("save", "")


def _saved(admin: Redis) -> str:
    facts: Any = admin.info("persistence")
    return "" if facts["rdb_bgsave_in_progress"] else str(facts["rdb_last_bgsave_status"])


@contextlib.contextmanager
def busy(server: RedisServer, admin: Redis) -> Iterator[None]:
    """A script of somebody runs for ever."""
    admin.config_set("lua-time-limit", 100)

    def run() -> None:
        with server.client() as client, contextlib.suppress(RedisError):
            client.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: _is_busy(admin), what="a script at work")
        yield
    finally:
        admin.script_kill()
        thread.join()


def _is_busy(admin: Redis) -> bool:
    try:
        admin.ping()
    except RedisError as error:
        return "BUSY" in str(error) or "script" in str(error)
    return False


@contextlib.contextmanager
def crowded(server: RedisServer, admin: Redis) -> Iterator[None]:
    """All links end, and there is no room for new ones."""
    most: Any = admin.config_get("maxclients")
    admin.config_set("maxclients", 1)
    admin.client_kill_filter(_type="normal", skipme=True)
    yield
    admin.config_set("maxclients", most["maxclients"])


TROUBLES: list[Trouble] = [unblocked, killed, paused, paused_writes, unsaved, busy, crowded]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
async def test_everybody_waits_and_goes_on(
    server: RedisServer, stack: Stack, trouble: Trouble
) -> None:
    """No process ends, requests and jobs are back soon, and each job that was pushed runs once."""
    async with contextlib.AsyncExitStack() as held:
        askers = {
            kind: await held.enter_async_context(
                asking(stack.ws(f"/?user={kind}-{trouble.__name__}"), kind)
            )
            for kind in ("ask", *JOBS)
        }
        await all_are_answered(askers)
        with server.client() as admin:
            context = trouble(server, admin)
            await asyncio.to_thread(context.__enter__)
            await asyncio.sleep(LASTS)
            await asyncio.to_thread(context.__exit__, None, None, None)
        await all_go_on(askers)
    assert all(process.running for process in (*stack.push_servers, *stack.workers))

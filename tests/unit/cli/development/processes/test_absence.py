"""What a development session says of the end of its worker of messages."""

import asyncio
from pathlib import Path

import pytest

from queue_run.cli.development.processes.absence import SHORT_DELAY, Absence
from queue_run.cli.supervision.reporter import Program
from queue_run.contracts.keys import Keys
from queue_run.settings import Settings
from tests.processes import RedisServer
from tests.waiting import eventually_async


def program(name: str) -> Program:
    return Program(name=name, command=("true",), environ={}, cwd=Path("/"))


@pytest.mark.parametrize("delay", [None, SHORT_DELAY + 1])
async def test_push_servers_are_told_of_an_end_after_which_none_starts_soon(
    redis_server: RedisServer, namespace: str, delay: float | None
) -> None:
    settings = Settings(redis_url=redis_server.url, namespace=namespace)
    keys = Keys(namespace)
    absence = Absence(settings)
    with redis_server.client() as client:
        client.set(keys.socket_workers, "1")
        task = asyncio.create_task(absence.run())
        absence.ended(program("jobs"), None)
        absence.ended(program("sockets"), SHORT_DELAY)
        await asyncio.sleep(0)
        assert client.exists(keys.socket_workers)
        absence.ended(program("sockets"), delay)
        await eventually_async(
            lambda: not client.exists(keys.socket_workers), what="the end of the sign of life"
        )
        assert client.xlen(keys.broadcast) == 1
        # And the next time.
        client.set(keys.socket_workers, "1")
        absence.ended(program("sockets"), delay)
        await eventually_async(
            lambda: not client.exists(keys.socket_workers), what="the end of the sign of life"
        )
        task.cancel()


async def test_without_redis_it_goes_on(namespace: str) -> None:
    absence = Absence(Settings(redis_url="redis://127.0.0.1:1/0", namespace=namespace))
    task = asyncio.create_task(absence.run())
    for _ in range(2):
        absence.ended(program("sockets"), None)
        await eventually_async(lambda: not absence._is_absent.is_set(), what="a try")
    assert not task.done()
    task.cancel()

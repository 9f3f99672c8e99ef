"""Pings: clients that have silently gone are noticed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from push_server import liveness
from push_server.connections import Connections
from queue_run.ids import ServerId
from tests.unit.push_server.building import Client, new_connection
from tests.unit.recorders import RecordingTransport
from tests.waiting import eventually_async

TICK = 0.01


@pytest.fixture
def connections() -> Connections:
    return Connections(ServerId("s1"))


def connect(connections: Connections) -> Client:
    transport = RecordingTransport()
    connection = new_connection(connections, transport)
    connections.add(connection)
    return Client(connection, transport)


@contextlib.asynccontextmanager
async def watched(connections: Connections) -> AsyncIterator[None]:
    task = asyncio.create_task(liveness.watch(connections, TICK))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_silent_client_is_pinged_once_and_then_dropped(connections: Connections) -> None:
    client = connect(connections)
    async with watched(connections):
        await eventually_async(lambda: client.transport.aborted, what="the drop")
    assert client.transport.pings == 1
    assert client.transport.aborted[0] == "silent for 0.02 seconds"


async def test_a_client_that_answers_is_pinged_again_and_again(connections: Connections) -> None:
    client = connect(connections)
    answering = client.transport.ping

    def ping() -> None:
        answering()
        client.connection.heard = True

    client.transport.ping = ping  # type: ignore[method-assign]
    async with watched(connections):
        await eventually_async(lambda: client.transport.pings >= 3, what="three pings")
    assert client.transport.aborted == []


async def test_a_client_that_we_do_not_read_is_spared(connections: Connections) -> None:
    paused, silent = connect(connections), connect(connections)
    paused.connection.heard = False
    paused.connection.pause()
    async with watched(connections):
        await eventually_async(lambda: silent.transport.aborted, what="the drop of another")
    assert paused.transport.aborted == []
    assert paused.transport.pings == 0


async def test_one_that_leaves_while_others_are_pinged_disturbs_nobody(
    connections: Connections,
) -> None:
    clients = [connect(connections) for _ in range(liveness.PINGS_AT_ONCE + 2)]
    async with watched(connections):
        await eventually_async(lambda: clients[0].transport.pings, what="the first ping")
        connections.remove(clients[1].connection)
        await eventually_async(lambda: clients[-1].transport.aborted, what="the last drop")
    assert clients[-1].transport.pings == 1


async def test_those_that_connect_later_are_pinged_too(connections: Connections) -> None:
    async with watched(connections):
        await asyncio.sleep(0)
        client = connect(connections)
        await eventually_async(lambda: client.transport.pings, what="a ping")

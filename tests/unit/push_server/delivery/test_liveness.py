"""Pings: clients that have silently gone are noticed."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from push_server.clients.envelope import Session
from push_server.delivery.liveness import PINGS_AT_ONCE, Liveness
from push_server.delivery.position import Position
from tests.unit.push_server.building import Client, PushServerParts, push_server
from tests.waiting import eventually_async


@pytest.fixture
async def server() -> PushServerParts:
    return await push_server()


def wheel(server: PushServerParts, *, interval: float = 5.0, timeout: float = 5.0) -> Liveness:
    """One slot for each second, judged five turns after its ping."""
    return Liveness(server.position, interval=interval, timeout=timeout)


async def turn(liveness: Liveness, times: int) -> None:
    for _ in range(times):
        await liveness.turn()


def connected(server: PushServerParts, liveness: Liveness) -> Client:
    client = server.connect()
    liveness.add(client.connection)
    return client


async def test_every_client_is_pinged_once_in_each_interval(server: PushServerParts) -> None:
    liveness = wheel(server, timeout=600)
    clients = [connected(server, liveness) for _ in range(50)]
    await turn(liveness, 5)
    assert [client.transport.pings for client in clients] == [1] * 50
    await turn(liveness, 5)
    assert [client.transport.pings for client in clients] == [2] * 50


async def test_clients_that_came_together_are_not_pinged_together(server: PushServerParts) -> None:
    liveness = wheel(server)
    clients = [connected(server, liveness) for _ in range(200)]
    await turn(liveness, 1)
    assert 0 < sum(client.transport.pings for client in clients) < 200


async def test_a_client_that_is_silent_after_its_ping_is_dropped(server: PushServerParts) -> None:
    liveness = wheel(server)
    client = connected(server, liveness)
    # Its ping comes in one of five turns, its judgement five turns later.
    await turn(liveness, 11)
    assert client.transport.aborted[0] == "silent for 5 seconds"


async def test_a_client_that_answers_stays(server: PushServerParts) -> None:
    liveness = wheel(server)
    client = connected(server, liveness)
    for _ in range(30):
        await liveness.turn()
        client.connection.heard = True
    assert client.transport.pings == 6
    assert client.transport.aborted == []


async def test_a_client_that_we_do_not_read_is_spared(server: PushServerParts) -> None:
    liveness = wheel(server)
    client = connected(server, liveness)
    client.connection.pause()
    await turn(liveness, 20)
    assert client.transport.aborted == []
    assert client.transport.pings == 0


async def test_one_that_we_stop_to_read_after_its_ping_is_spared(server: PushServerParts) -> None:
    liveness = wheel(server)
    client = connected(server, liveness)
    await turn(liveness, 5)
    assert client.transport.pings == 1
    client.connection.pause()
    await turn(liveness, 20)
    assert client.transport.aborted == []


async def test_one_that_we_read_again_has_the_time_of_a_new_ping(server: PushServerParts) -> None:
    liveness = wheel(server, interval=5, timeout=8)
    client = connected(server, liveness)
    while not client.transport.pings:
        await liveness.turn()
    client.connection.pause()
    await turn(liveness, 7)
    # Its pong waits to be read.
    client.connection.read_on()
    await turn(liveness, 1)
    assert client.transport.aborted == []
    # Silent from then on.
    await turn(liveness, 15)
    assert client.transport.aborted != []


@pytest.mark.parametrize(("interval", "patience"), [(5, 8), (5, 11), (5, 14), (10, 6)])
async def test_a_client_has_its_time_even_when_it_is_pinged_more_often(
    server: PushServerParts, interval: float, patience: float
) -> None:
    """It answers each ping after almost as long as it may take."""
    liveness = wheel(server, interval=interval, timeout=patience)
    assert liveness.tick == 1
    client = connected(server, liveness)
    pings = 0
    due: list[int] = []
    for now in range(200):
        if now in due:
            client.connection.heard = True
        await liveness.turn()
        if client.transport.pings > pings:
            pings = client.transport.pings
            due.append(now + int(patience) - 1)
    assert client.transport.aborted == []


@pytest.mark.parametrize(("interval", "patience"), [(5, 8), (5, 11), (5, 14), (10, 6)])
async def test_a_client_that_falls_silent_is_dropped_in_time(
    server: PushServerParts, interval: float, patience: float
) -> None:
    liveness = wheel(server, interval=interval, timeout=patience)
    client = connected(server, liveness)
    for _ in range(40):
        await liveness.turn()
        client.connection.heard = True
    turns = 0
    while not client.transport.aborted:
        await liveness.turn()
        turns += 1
        assert turns <= interval + patience + 1
    assert turns > patience


async def test_one_that_has_left_is_left_alone(server: PushServerParts) -> None:
    liveness = wheel(server)
    client = connected(server, liveness)
    await turn(liveness, 5)
    liveness.remove(client.connection)
    liveness.remove(client.connection)
    await turn(liveness, 20)
    assert client.transport.pings == 1
    assert client.transport.aborted == []


async def test_many_are_pinged_without_holding_up_the_loop(server: PushServerParts) -> None:
    liveness = wheel(server, interval=1.0, timeout=600)
    for _ in range(12 * PINGS_AT_ONCE):
        connected(server, liveness)
    others = 0

    async def other_work() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other_work())
    await liveness.turn()
    task.cancel()
    assert others > 1


# Clients that can resume


def enveloped(server: PushServerParts, liveness: Liveness, *, live: bool = True) -> Client:
    client = server.connect_enveloped(live=live)
    liveness.add(client.connection)
    return client


def state(client: Client) -> Session:
    assert client.connection.session is not None
    return client.connection.session


async def test_a_ping_tells_up_to_where_everything_was_sent(server: PushServerParts) -> None:
    liveness = wheel(server)
    client = enveloped(server, liveness)
    server.position.move((7, 1))
    await turn(liveness, 5)
    assert client.told == [{"type": "ping", "offset": "7-1"}]


async def test_in_the_midst_of_a_delivery_a_ping_tells_no_offset(server: PushServerParts) -> None:
    liveness = wheel(server)
    client = enveloped(server, liveness)
    server.position.move((7, 1))
    server.position.begun = (8, 0)
    await turn(liveness, 5)
    assert client.told == [{"type": "ping"}]


async def test_a_client_that_is_held_gets_no_offset(server: PushServerParts) -> None:
    liveness = wheel(server)
    client = enveloped(server, liveness, live=False)
    server.position.move((7, 1))
    await turn(liveness, 5)
    assert client.told == [{"type": "ping"}]


async def test_one_that_we_do_not_read_is_still_told_that_we_are_there(
    server: PushServerParts,
) -> None:
    """Or it would leave a server that it does not hear, and come back with the same work."""
    liveness = wheel(server)
    client = enveloped(server, liveness)
    client.connection.pause()
    await turn(liveness, 20)
    assert [frame["type"] for frame in client.told] == ["ping"] * 4
    assert client.transport.aborted == []


async def test_a_client_that_is_ahead_of_this_server_is_not_sent_back(
    server: PushServerParts,
) -> None:
    liveness = wheel(server)
    client = enveloped(server, liveness)
    state(client).offset = (9, 0)
    server.position.move((7, 1))
    await turn(liveness, 5)
    assert client.told == [{"type": "ping"}]


# The wheel turns


@pytest.fixture
async def turning() -> AsyncIterator[Liveness]:
    liveness = Liveness(Position(), interval=0.05, timeout=0.05)
    task = asyncio.create_task(liveness.run())
    yield liveness
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_wheel_turns_by_itself(server: PushServerParts, turning: Liveness) -> None:
    client = connected(server, turning)
    await eventually_async(lambda: client.transport.aborted, what="the drop")
    assert client.transport.pings >= 1


@pytest.mark.parametrize(("interval", "timeout", "tick"), [(25, 10, 1), (2, 10, 0.4), (25, 1, 0.2)])
def test_a_turn_is_short_beside_what_it_measures(
    interval: float, timeout: float, tick: float
) -> None:
    assert Liveness(Position(), interval=interval, timeout=timeout).tick == pytest.approx(tick)

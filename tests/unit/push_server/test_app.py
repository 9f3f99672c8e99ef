"""The life of a push server. What it does under load and faults is in tests/acceptance."""

import asyncio
import json

import msgspec
import pytest
import redis

from push_server import app
from push_server.app import PushServer
from push_server.upkeep.lifetime import PartLost
from queue_run.contracts.envelopes import ToConnection, encode
from queue_run.contracts.keys import Keys
from queue_run.contracts.messages import Form, Message
from queue_run.settings import Settings
from tests.clients import connected
from tests.unit.push_server.serving import address, offer, running, settings, started, status
from tests.waiting import DEADLINE

__all__ = ["settings"]


async def test_stopping_closes_connections_and_takes_no_new_ones(settings: Settings) -> None:
    offer(settings)
    server = PushServer(settings)
    life = await started(server)
    async with connected(address(server)) as client, asyncio.timeout(DEADLINE):
        server.lifetime.end()
        assert await client.closed() == (1001, "the server is shutting down")
        await life
    with pytest.raises(ConnectionRefusedError):
        async with connected(address(server)):
            pass


async def test_what_is_on_its_stream_reaches_its_clients(settings: Settings) -> None:
    offer(settings)
    async with running(settings) as server, connected(address(server)) as client:
        [connection] = server.parts.ground.connections
        envelope = ToConnection(connection=connection.id, message=Message(Form.TEXT, b"hi"))
        stream = Keys(settings.namespace).server(server.parts.ground.id)
        with redis.Redis.from_url(settings.redis_url) as writer:
            await asyncio.to_thread(writer.xadd, stream, {"e": encode(envelope)})
        assert await client.receive_raw() == "hi"


async def test_a_client_that_answers_no_ping_is_dropped(settings: Settings) -> None:
    offer(settings)
    async with running(_impatient(settings)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        async with asyncio.timeout(DEADLINE):
            await reader.readuntil(b"\r\n\r\n")
            # Pings, and then the end.
            assert set((await reader.read()).split(b"\x89\x00")) == {b""}
        writer.close()


def _impatient(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, ping_interval=0.05, ping_timeout=0.05)


def part_of(name: str) -> "asyncio.Task[None]":
    [task] = [each for each in asyncio.all_tasks() if each.get_name() == name]
    return task


@pytest.mark.parametrize("part", ["hub", "heartbeat", "pings", "rooms of sessions"])
async def test_a_part_that_ends_ends_the_server_after_its_connections(
    settings: Settings, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    offer(settings)
    server = PushServer(settings)
    life = await started(server)
    async with connected(address(server)) as client, asyncio.timeout(DEADLINE):
        # As a defect would end it: nobody has asked for it.
        part_of(part).cancel()
        assert await client.closed() == (1001, "the server is shutting down")
        with pytest.raises(PartLost, match=f"{part} ended unexpectedly"):
            await life
    assert [each.message for each in caplog.records if each.levelname == "CRITICAL"] == [
        f"{part} ended unexpectedly"
    ]


async def test_while_it_closes_its_connections_readiness_names_the_part_that_it_lost(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LOST_TIME", 3.0)
    offer(settings)
    server = PushServer(settings)
    life = await started(server)
    async with connected(address(server)) as client, asyncio.timeout(DEADLINE):
        await client.send("nobody answers")
        part_of("presence").cancel()
        code, body = await status(server, "/readyz")
        missing = json.loads(body)["missing"]
        assert (code, missing[:2]) == (
            503,
            ["presence, which ended unexpectedly", "shutting down"],
        )
        assert (await client.closed())[0] == 1001
        with pytest.raises(PartLost):
            await life

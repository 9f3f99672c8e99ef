"""The push server put together. What it does under load and faults is in tests/acceptance."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import redis
from tornado.httpclient import AsyncHTTPClient
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from push_server import app
from push_server.app import CannotStart, PartLost, PushServer
from queue_run.contracts.envelopes import Hello, ToConnection, decode, encode
from queue_run.contracts.ids import ConnectionId
from queue_run.contracts.keys import Keys
from queue_run.contracts.manifest import Manifest, QueueFacts
from queue_run.contracts.messages import Form, Message
from queue_run.settings import Settings
from tests.clients import connected
from tests.unit.push_server.building import INDEX
from tests.waiting import DEADLINE, eventually_async

GRACE = 3.0


@pytest.fixture
def settings(fake_redis_url: str, namespace: str, tmp_path: Path) -> Settings:
    (tmp_path / "index.html").write_text("<p>the page")
    return Settings(
        redis_url=fake_redis_url,
        broker_url="memory://",
        namespace=namespace,
        port=0,
        public_dir=str(tmp_path),
        shutdown_grace=GRACE,
        heartbeat_interval=0.05,
    )


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[PushServer]:
    server = PushServer(settings)
    http = await server._start()
    assert http is not None
    try:
        yield server
    finally:
        async with asyncio.timeout(DEADLINE):
            await server._stop(http, grace=GRACE)


def address(server: PushServer) -> str:
    return f"ws://127.0.0.1:{server.port}/"


async def status(server: PushServer, path: str) -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{server.port}{path}"
    response = await AsyncHTTPClient().fetch(url, raise_error=False)
    return response.code, response.body


def offer(settings: Settings) -> None:
    """What workers leave in Redis."""
    keys = Keys(settings.namespace)
    with redis.Redis.from_url(settings.redis_url) as client:
        client.set(keys.manifest, Manifest(routes=[INDEX], queues={"mail": QueueFacts()}).encode())
        client.set(keys.socket_workers, "1")


async def test_without_redis_it_says_what_to_do() -> None:
    with pytest.raises(CannotStart, match=r"does not answer .* start it, or set REDIS_URL"):
        await PushServer(Settings(redis_url="redis://127.0.0.1:1/0"))._start()


async def test_on_a_port_that_is_taken_it_says_what_to_do(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        unlucky = Settings(redis_url=settings.redis_url, namespace=settings.namespace, port=port)
        with pytest.raises(CannotStart, match=f"port {port} of 127.0.0.1 .* set PORT"):
            await PushServer(unlucky)._start()


async def test_its_stream_is_there_while_it_runs(settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url) as client:
        async with running(settings) as server:
            stream = Keys(settings.namespace).server(server.id)
            [(_, fields)] = client.xrange(stream)
            assert isinstance(decode(fields[b"e"]), Hello)
            longest = settings.heartbeat_expiry + settings.session_time
            assert settings.session_time - 30 < int(client.ttl(stream)) <= longest
        # It may hold outcomes for clients that resume elsewhere.
        assert 0 < int(client.ttl(stream)) <= settings.session_time


async def test_a_stream_that_redis_has_lost_is_made_anew(settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url) as client:
        async with running(settings) as server:
            stream = Keys(settings.namespace).server(server.id)
            client.delete(stream)
            await eventually_async(lambda: client.exists(stream), what="the new stream")


async def test_it_becomes_ready_when_workers_are_there(settings: Settings) -> None:
    async with running(settings) as server:
        assert (await status(server, "/readyz"))[0] == 503
        await asyncio.to_thread(offer, settings)
        await eventually_async(lambda: server._application.available, what="the workers")
        assert (await status(server, "/readyz"))[0] == 200


async def test_files_and_websockets_share_a_path(settings: Settings) -> None:
    offer(settings)
    async with running(settings) as server:
        assert await status(server, "/") == (200, b"<p>the page")
        assert (await status(server, "/no/such/file"))[0] == 404
        async with connected(address(server)):
            pass


HIDDEN = [
    *("/.env", "/%2eenv", "/%2Eenv", "/.git/config", "/%2egit%2fconfig", "/a/../.env", "/a/.env"),
    *("/a/%2e%2e/.env", "/..", "/../secret", "/%2e%2e/secret", "/%2e%2e%2fsecret", "//.env"),
    *("/out", "/outside/secret", "/%2fetc/passwd", "//etc/passwd", "/%00", "/index.html%00", "/."),
    "/.well-known",
]


@pytest.mark.parametrize("path", HIDDEN)
async def test_hidden_files_and_what_lies_outside_are_not_served(
    settings: Settings, tmp_path: Path, path: str
) -> None:
    public = tmp_path / ".public"
    (public / "a").mkdir(parents=True)
    (public / ".git").mkdir()
    for name in (".env", ".git/config", "a/.env", ".well-known", "../secret"):
        (public / name).write_text("hush")
    (public / "out").symlink_to(tmp_path / "secret")
    (public / "outside").symlink_to(tmp_path)
    async with running(msgspec.structs.replace(settings, public_dir=str(public))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"hush" not in answer


async def test_files_with_any_other_name_are_served(settings: Settings, tmp_path: Path) -> None:
    data = tmp_path / "..data"
    data.mkdir()
    for name in ("my page.html", "ü.txt", "a.b"):
        (tmp_path / name).write_text("shown")
    # As Kubernetes mounts a ConfigMap.
    (data / "mounted").write_text("shown")
    (tmp_path / "mounted").symlink_to("..data/mounted")
    async with running(settings) as server:
        for path in ("/my%20page.html", "/%C3%BC.txt", "/a.b", "/a%2eb", "/mounted"):
            assert await status(server, path) == (200, b"shown")


@pytest.mark.parametrize("path", ["/", "/healthz", "/_/queues/mail", "/chat", "/_/x"])
async def test_a_name_that_is_not_the_servers_is_refused_on_every_path(
    settings: Settings, path: str
) -> None:
    offer(settings)
    named = msgspec.structs.replace(settings, allowed_hosts="localhost,127.0.0.0/8")
    async with running(named) as server:
        for host, refused in (("evil.example:80", True), (f"localhost:{server.port}", False)):
            for more in ("", "Connection: Upgrade\r\nUpgrade: websocket\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
                async with asyncio.timeout(DEADLINE):
                    line = await reader.readline()
                writer.close()
                assert (b" 403 " in line) is refused


async def test_a_client_that_sends_half_a_body_is_dropped(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "BODY_TIMEOUT", 0.1)
    offer(settings)
    async with running(msgspec.structs.replace(settings, api_keys="key-of-a-program")) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"POST /_/queues/mail HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer key\r\n"
            b"Content-Type: text/plain\r\nContent-Length: 9\r\n\r\nhalf"
        )
        async with asyncio.timeout(DEADLINE):
            assert await reader.read() == b""
        writer.close()
        await server._pushes.drain(DEADLINE)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/page.html"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "BREW"])
async def test_another_method_is_told_which_are_taken(
    settings: Settings, tmp_path: Path, path: str, method: str
) -> None:
    (tmp_path / "page.html").write_text("<p>a page")
    offer(settings)
    async with running(msgspec.structs.replace(settings, public_dir=str(tmp_path))) as server:
        response = await AsyncHTTPClient().fetch(
            f"http://127.0.0.1:{server.port}{path}",
            method=method,
            body="" if method == "POST" else None,
            allow_nonstandard_methods=True,
            raise_error=False,
        )
    assert (response.code, response.body) == (405, b"Method Not Allowed\n")
    assert response.headers["Allow"] == "GET, HEAD"
    assert response.headers["Content-Type"].startswith("text/plain")


async def test_the_servers_own_prefix_has_neither_files_nor_websockets(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "_").mkdir()
    (tmp_path / "_" / "page.html").write_text("<p>a page")
    offer(settings)
    async with running(settings) as server:
        assert (await status(server, "/_/page.html"))[0] == 404
        assert (await status(server, "/_/queues/mail"))[0] == 405
        with pytest.raises(InvalidStatus) as refused:
            async with connected(f"{address(server)}_/chat"):
                pass
        assert refused.value.response.status_code == 404


async def test_stopping_closes_connections_and_takes_no_new_ones(settings: Settings) -> None:
    offer(settings)
    server = PushServer(settings)
    http = await server._start()
    assert http is not None
    async with connected(address(server)) as client, asyncio.timeout(DEADLINE):
        stopping = asyncio.create_task(server._stop(http, grace=GRACE))
        assert await client.closed() == (1001, "the server is shutting down")
        await stopping
    with pytest.raises(ConnectionRefusedError):
        async with connected(address(server)):
            pass


async def test_what_is_on_its_stream_reaches_its_clients(settings: Settings) -> None:
    offer(settings)
    async with running(settings) as server, connected(address(server)) as client:
        [connection] = server._connections
        envelope = ToConnection(connection=connection.id, message=Message(Form.TEXT, b"hi"))
        stream = Keys(settings.namespace).server(server.id)
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


ENVELOPED = {"subprotocols": [Subprotocol("queue-run.v1")]}


async def test_rooms_are_written_anew_when_redis_has_lost_them(settings: Settings) -> None:
    offer(settings)
    keys = Keys(settings.namespace)
    async with running(settings) as server, connected(address(server), **ENVELOPED) as client:
        session = (await client.receive())["session"]
        [connection] = server._connections
        server._connections.join(connection, "hall")
        with redis.Redis.from_url(settings.redis_url) as admin:
            await asyncio.to_thread(admin.delete, keys.epoch)
            await eventually_async(
                lambda: admin.hkeys(keys.session_rooms(session)) == [b"hall"],
                what="the rooms in Redis",
            )


async def test_a_push_server_that_starts_has_what_was_sent_before(settings: Settings) -> None:
    offer(settings)
    keys = Keys(settings.namespace)
    with redis.Redis.from_url(settings.redis_url) as admin:
        async with running(settings) as first, connected(address(first), **ENVELOPED) as client:
            place = await client.receive()
        for number in range(3):
            message = Message(Form.JSON, str(number).encode())
            sent = ToConnection(
                connection=ConnectionId("x-1"), session=place["session"], message=message
            )
            await asyncio.to_thread(admin.xadd, keys.broadcast, {"e": encode(sent)})
    async with running(settings) as second, connected(address(second), **ENVELOPED) as client:
        await client.receive()
        asked = {name: place[name] for name in ("session", "offset", "epoch")}
        await client.send({"type": "resume", **asked})
        got = [await client.receive() for _ in range(4)]
    assert [each.get("data", each["type"]) for each in got] == [0, 1, 2, "resumed"]


async def test_work_that_ends_unexpectedly_is_told(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise LookupError("a defect")

    async with running(settings) as server:
        server._background(fail(), "the hub")
        await eventually_async(lambda: caplog.text, what="the failure in the log")
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == ("CRITICAL", "the hub ended unexpectedly")
    assert "a defect" in caplog.text


# Parts that end


@pytest.mark.parametrize("part", ["hub", "heartbeat", "pings", "rooms of sessions"])
async def test_a_part_that_ends_ends_the_server_after_its_connections(
    settings: Settings, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    offer(settings)
    server = PushServer(settings)
    running = asyncio.create_task(server.run())
    await eventually_async(lambda: server.port, what="its port")
    async with connected(address(server)) as client, asyncio.timeout(DEADLINE):
        [task] = [each for each in server._tasks if each.get_name() == part]
        # As a defect would end it: nobody has asked for it.
        task.cancel()
        assert await client.closed() == (1001, "the server is shutting down")
        with pytest.raises(PartLost, match=f"{part} ended unexpectedly"):
            await running
    assert [each.message for each in caplog.records if each.levelname == "CRITICAL"] == [
        f"{part} ended unexpectedly"
    ]

"""Who answers which path, in a whole push server."""

import asyncio
import socket
from pathlib import Path

import msgspec
import pytest
from tornado.httpclient import AsyncHTTPClient
from websockets.exceptions import InvalidStatus

from push_server.app import PushServer
from push_server.http import site
from push_server.upkeep.lifetime import CannotStart
from queue_run.settings import Settings
from tests.clients import connected
from tests.unit.push_server.serving import address, offer, running, settings, status
from tests.waiting import DEADLINE

__all__ = ["settings"]


async def test_on_a_port_that_is_taken_it_says_what_to_do(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        unlucky = Settings(redis_url=settings.redis_url, namespace=settings.namespace, port=port)
        with pytest.raises(CannotStart, match=f"port {port} of 127.0.0.1 .* set PORT"):
            await PushServer(unlucky).run()


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
    monkeypatch.setattr(site, "BODY_TIMEOUT", 0.1)
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
        await server.parts.http.pushes.wind_down(DEADLINE)


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

"""Heads that are too large, on a real server with clients that speak byte by byte."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tornado import web
from tornado.netutil import bind_sockets

from push_server.http import http_server
from push_server.http.http_server import TOO_LARGE, Server
from tests.waiting import DEADLINE

LIMIT = 1024
GOOD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Hello(web.RequestHandler):
    """Answers whatever is asked."""

    def get(self) -> None:
        self.finish("hello")

    post = get


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    server = Server(web.Application([(".*", Hello)]), max_header_size=LIMIT)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    reader, writer = await asyncio.open_connection(*sockets[0].getsockname()[:2])
    try:
        async with asyncio.timeout(DEADLINE):
            yield reader, writer
    finally:
        writer.close()
        server.stop()
        await server.close_all_connections()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"c" * LIMIT + b"\r\n\r\n",
        b"GET /" + b"p" * LIMIT + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /?" + b"q" * 60_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"x" * 200_000,
        b"\x00" * (LIMIT + 1),
    ],
)
async def test_a_head_beyond_the_limit_is_answered(head: bytes) -> None:
    async with client() as (reader, writer):
        writer.write(head)
        assert await reader.read() == TOO_LARGE


async def test_the_answer_is_heard_by_a_client_that_goes_on_sending() -> None:
    async with client() as (reader, writer):
        for _ in range(8):
            writer.write(b"x" * 60_000)
            await asyncio.sleep(0)
        assert await reader.read() == TOO_LARGE


async def test_a_client_that_never_stops_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "DISCARDED", 100_000)
    async with client() as (reader, writer):
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"x" * 60_000)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            await reader.read()


async def test_a_client_that_stays_silent_then_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "PATIENCE", 0.05)
    async with client() as (reader, writer):
        writer.write(b"x" * (LIMIT + 1))
        assert await reader.read() == TOO_LARGE
        with pytest.raises(ConnectionError):
            await _write_on(writer)


async def _write_on(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0)


async def test_requests_before_it_are_answered_first() -> None:
    async with client() as (reader, writer):
        writer.write(GOOD + b"y" * (LIMIT + 1))
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"hello" + TOO_LARGE)


async def test_a_head_within_the_limit_is_taken() -> None:
    async with client() as (reader, writer):
        writer.write(GOOD.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 900 + b"\r\n\r\n"))
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_body_that_is_malformed_is_no_large_head() -> None:
    async with client() as (reader, writer):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"f" * 2000)
        assert b" 431 " not in await reader.read()

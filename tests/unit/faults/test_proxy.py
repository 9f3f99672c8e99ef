"""The proxy forwards, and breaks links in the ways that it says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Proxy
from tests.waiting import DEADLINE, eventually_async


@contextlib.asynccontextmanager
async def echo_behind_proxy() -> AsyncIterator[Proxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, text: bytes) -> bytes:
        self.writer.write(text)
        return await self.read()

    async def read(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read(1000)


async def through(proxy: Proxy) -> Peer:
    return Peer(*await asyncio.open_connection("127.0.0.1", proxy.port))


async def test_what_is_sent_is_forwarded_both_ways() -> None:
    async with echo_behind_proxy() as proxy:
        peer = await through(proxy)
        assert await peer.ask(b"hello") == b"hello"


async def test_a_link_that_is_cut_is_reset() -> None:
    async with echo_behind_proxy() as proxy:
        peer = await through(proxy)
        await peer.ask(b"hello")
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            await peer.read()
        await eventually_async(lambda: not proxy.links, what="the link to be forgotten")


async def test_only_as_many_links_are_cut_as_was_said() -> None:
    async with echo_behind_proxy() as proxy:
        peers = [await through(proxy) for _ in range(3)]
        for peer in peers:
            await peer.ask(b"hello")
        assert proxy.cut(2) == 2
        await eventually_async(lambda: len(proxy.links) == 1, what="one link to be left")


async def test_a_half_open_link_neither_answers_nor_ends() -> None:
    async with echo_behind_proxy() as proxy:
        peer, other = await through(proxy), await through(proxy)
        await peer.ask(b"hello")
        await other.ask(b"hello")
        assert proxy.half_open(2) == 2
        peer.writer.write(b"lost")
        # A new link, on which an answer comes: the half-open one had its time.
        later = await through(proxy)
        assert await later.ask(b"now") == b"now"
        assert proxy.cut() == 1
        assert not peer.reader.at_eof()
        assert len(proxy.links) >= 2


async def test_a_delay_holds_back_what_is_forwarded() -> None:
    async with echo_behind_proxy() as proxy:
        peer = await through(proxy)
        await peer.ask(b"hello")
        proxy.delay = 0.1
        loop = asyncio.get_running_loop()
        started = loop.time()
        await peer.ask(b"hello")
        assert loop.time() - started >= 0.2


async def test_what_is_sent_while_it_is_frozen_arrives_afterwards() -> None:
    async with echo_behind_proxy() as proxy:
        peer = await through(proxy)
        await peer.ask(b"hello")
        proxy.freeze()
        answer = asyncio.create_task(peer.ask(b"kept"))
        later = asyncio.create_task(through(proxy))
        # Links are accepted meanwhile; on none of them anything comes.
        await eventually_async(lambda: len(proxy.links) == 2, what="another link")
        assert (await later).writer.get_extra_info("peername")[1] == proxy.port
        assert not answer.done()
        proxy.resume()
        assert await answer == b"kept"


async def test_a_proxy_that_refuses_resets_new_links_and_keeps_the_others() -> None:
    async with echo_behind_proxy() as proxy:
        peer = await through(proxy)
        await peer.ask(b"hello")
        proxy.refusing = True
        refused = await through(proxy)
        with pytest.raises(ConnectionResetError):
            await refused.read()
        assert await peer.ask(b"still") == b"still"
        proxy.refusing = False
        assert await (await through(proxy)).ask(b"again") == b"again"


async def test_a_client_of_a_server_that_is_gone_is_reset_at_once() -> None:
    async with echo_behind_proxy() as proxy:
        target = proxy
    async with Proxy(target.port) as proxy:
        peer = await through(proxy)
        with contextlib.suppress(ConnectionResetError):
            assert await peer.read() == b""


async def test_what_the_server_ends_ends_for_the_client() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        peer = await through(proxy)
        assert await peer.read() == b"bye"
        assert await peer.read() == b""

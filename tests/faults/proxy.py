"""A TCP proxy on loopback that cuts, delays, freezes and half-opens links."""

import asyncio
import contextlib
import random
import socket
import struct
from types import TracebackType
from typing import Self

CHUNK = 64 * 1024


class Link:
    """A connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        #: Neither forwards nor closes: what a pulled cable looks like.
        self.half_open = False
        #: Forwards what the client says only: the server does it, and nobody learns of it.
        self.mute = False

    def cut(self) -> None:
        """End it as a crash would: both sides get a reset."""
        for writer in (self.client, self.server):
            sock = writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


class Proxy:
    """Stands in front of one server; to be used as `async with`."""

    def __init__(self, port: int) -> None:
        """
        Args:
            port: of the server, on 127.0.0.1.
        """
        self._target = port
        self.links: set[Link] = set()
        #: Seconds that each chunk is held back.
        self.delay = 0.0
        #: Chunks that have come and are not forwarded yet.
        self.held = 0
        #: Chunks that have come and are never forwarded.
        self.swallowed = 0
        #: New links are reset at once.
        self.refusing = False
        self.port = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self.links):
            link.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, count: int | None = None) -> int:
        """Cut some links, chosen by chance, or all; how many they were."""
        chosen = self._chosen(count)
        for link in chosen:
            link.cut()
        return len(chosen)

    def half_open(self, count: int | None = None) -> int:
        """Let some links, or all, fall silent, both ways, without an end."""
        chosen = self._chosen(count)
        for link in chosen:
            link.half_open = True
        return len(chosen)

    def mute(self) -> int:
        """Let all links swallow what the server answers; how many they were."""
        chosen = self._chosen(None)
        for link in chosen:
            link.mute = True
        return len(chosen)

    def lead_to(self, port: int) -> None:
        """Let new links end at another server; those that there are stay as they are."""
        self._target = port

    def freeze(self) -> None:
        """Forward nothing, and keep what comes until `resume`."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def _chosen(self, count: int | None) -> list[Link]:
        links = [link for link in self.links if not link.half_open]
        return links if count is None else random.sample(links, min(count, len(links)))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            Link(writer, writer).cut()
            return
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, forth)
        self.links.add(link)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await asyncio.gather(self._pump(link, reader, forth), self._pump(link, back, writer))
        except asyncio.CancelledError:
            # At the end. asyncio's server takes a task of its own that was cancelled for a fault.
            pass
        finally:
            self.links.discard(link)
            self._tasks.discard(task)
            for each in (writer, forth):
                each.transport.abort()

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Forward one direction until it ends, and then end the other."""
        try:
            while data := await reader.read(CHUNK):
                self.held += 1
                try:
                    await self._forward(link, data, writer)
                finally:
                    self.held -= 1
        except OSError:
            # Of a silent link neither side learns how the other one has ended.
            if not link.half_open:
                writer.transport.abort()
        else:
            if not link.half_open:
                writer.close()

    async def _forward(self, link: Link, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._flowing.wait()
        if link.half_open or (link.mute and writer is link.client):
            self.swallowed += 1
            return
        writer.write(data)
        await writer.drain()

"""Real WebSocket clients for tests."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.waiting import DEADLINE


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator["Client"]:
    """A client that is connected inside the block."""
    connection = await connect(url, open_timeout=DEADLINE, ping_interval=None, **options)
    try:
        yield Client(connection)
    finally:
        await connection.close()


class Client:
    """A WebSocket, with a deadline on everything that it waits for."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: Any) -> None:
        """Send text or bytes as they are, anything else as JSON."""
        raw = message if isinstance(message, str | bytes) else json.dumps(message)
        await self.connection.send(raw)

    async def receive_raw(self) -> str | bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.connection.recv()

    async def receive(self) -> Any:
        """The next message; JSON is decoded."""
        raw = await self.receive_raw()
        try:
            return json.loads(raw) if isinstance(raw, str) else raw
        except json.JSONDecodeError:
            return raw

    async def ask(self, message: Any) -> Any:
        await self.send(message)
        return await self.receive()

    async def closed(self) -> tuple[int, str]:
        """Wait for the end; the code and reason that the server closed with."""
        try:
            while True:
                await self.receive_raw()
        except ConnectionClosed as error:
            return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")

    async def until_closed(self) -> list[Any]:
        """All messages up to the end of the connection."""
        messages = []
        try:
            while True:
                messages.append(await self.receive())
        except ConnectionClosed:
            return messages

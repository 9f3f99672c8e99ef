"""A server of the envelope protocol that does what a test says, on a real socket."""

import asyncio
import json
import time
from http import HTTPStatus
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from queue_run.contracts.client_frames import SUBPROTOCOL
from tests.waiting import DEADLINE

WELCOME = {
    "type": "welcome",
    "connection": "server-1",
    "session": "s1",
    "user": "ann",
    "offset": "1-0",
    "epoch": "e1",
    "heartbeat": 25_000,
    "resume": 60_000,
}


class Peer:
    """The server's side of one connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        assert connection.request is not None
        self.headers = connection.request.headers

    async def send(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def receive(self) -> Any:
        """The client's next frame."""
        async with asyncio.timeout(DEADLINE):
            return json.loads(await self.connection.recv())

    async def closed(self) -> int | None:
        """Wait until the client has closed it; the code."""
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    await self.connection.recv()
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else None

    async def welcome(self, **changes: Any) -> Any:
        """Greet the client; its first frame."""
        await self.send(**{**WELCOME, **changes})
        return await self.receive()

    async def message(self, offset: str, data: Any) -> None:
        await self.send(type="message", offset=offset, data=data)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.connection.close(code, reason)

    def cut(self) -> None:
        """End the connection without a word."""
        self.connection.transport.abort()


class FakeServer:
    """Accepts connections and hands them to the test."""

    def __init__(self, *, subprotocol: str | None = SUBPROTOCOL) -> None:
        self._subprotocols = [Subprotocol(subprotocol)] if subprotocol else None
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: Server | None = None
        #: HTTP statuses for the next attempts to connect.
        self.refusals: list[int] = []
        #: When there was an attempt to connect (monotonic).
        self.attempts: list[float] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/chat"

    async def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            self.port,
            subprotocols=self._subprotocols,
            process_request=self._process_request,
            compression=None,
            ping_interval=None,
            close_timeout=1,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Cut all connections and listen no more."""
        assert self._server is not None
        for connection in list(self._server.connections):
            connection.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def accept(self) -> Peer:
        """The next connection."""
        async with asyncio.timeout(DEADLINE):
            return await self._peers.get()

    async def _handle(self, connection: ServerConnection) -> None:
        self._peers.put_nowait(Peer(connection))
        await connection.wait_closed()

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.attempts.append(time.monotonic())
        if self.refusals:
            return connection.respond(HTTPStatus(self.refusals.pop(0)), "not you\n")
        return None

"""`python -m benchmarks.client_process PROTOCOL`: thousands of cheap WebSocket clients.

Orders come as JSON lines on stdin, each is answered by one line on stdout. Each client checks what
it gets: an answer that is wrong, lost, doubled or out of order is an error of the run.
"""

import asyncio
import contextlib
import json
import resource
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop
from picows import ws_connect

from benchmarks.client_protocols import PROTOCOLS, Client
from benchmarks.exercises import Exercise, Listening, Pushes, RoundTrips
from benchmarks.spread import quantile

#: Seconds in which a handshake must end.
HANDSHAKE_TIMEOUT = 60.0
#: Handshakes under way at once while a crowd is opened.
BATCH = 100
#: Connections after which another source address is used: ports of closed ones stay taken.
PER_ADDRESS = 10_000
#: Linux: the kernel chooses the port when it knows the other end.
IP_BIND_ADDRESS_NO_PORT = 24


class Crowd:
    """The clients of one process, and what they do at the moment."""

    def __init__(self, protocol: type[Client]) -> None:
        self._protocol = protocol
        self._clients: list[Client] = []
        self._opened = 0
        self._closing = False
        self._exercise: Exercise = Exercise([])
        self.errors: list[str] = []

    def received(self, client: Client, message: bytes) -> None:
        self._exercise.received(client, message)

    def lost(self, client: Client) -> None:
        if not self._closing:
            self.fail(f"the connection of {client.user} was closed by the server")

    def fail(self, error: str) -> None:
        self.errors.append(error)
        self._exercise.done.set()

    # Orders.

    async def open(
        self,
        url: str,
        count: int,
        users: str,
        batch: int = BATCH,
        first: int = 0,
        resume: bool = False,
    ) -> dict[str, Any]:
        """Connect so many clients; each is open when its protocol's greeting is there.

        Args:
            users: of which `%d` is the number of the client.
            first: the number of the first client.
            resume: at once, as clients do that were here before.
        """
        started = asyncio.get_running_loop().time()
        for begin in range(first, first + count, batch):
            numbers = range(begin, min(begin + batch, first + count))
            names = [users.replace("%d", str(number)) for number in numbers]
            self._clients += await asyncio.gather(
                *(self._connect(url, name, resume) for name in names)
            )
        return {"seconds": asyncio.get_running_loop().time() - started}

    async def _connect(self, url: str, user: str, resume: bool) -> Client:
        client = self._protocol(self, user)
        client.resumes_at_once = resume
        address = f"127.0.0.{1 + self._opened // PER_ADDRESS % 250}"
        self._opened += 1
        await ws_connect(
            lambda: client,
            client.address(url),
            websocket_handshake_timeout=HANDSHAKE_TIMEOUT,
            socket_factory=lambda _: _socket(address),
            extra_headers=client.headers,
            read_buffer_init_size=4096,
        )
        async with asyncio.timeout(HANDSHAKE_TIMEOUT):
            await (client.resumed if resume else client.greeted).wait()
        return client

    async def close(self) -> dict[str, Any]:
        self._closing = True
        for number, client in enumerate(self._clients):
            client.disconnect()
            if number % BATCH == 0:
                await asyncio.sleep(0)
        for client in self._clients:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                await client.gone.wait()
        self._clients.clear()
        self._closing = False
        return {}

    async def round_trips(self, deadline: float, **options: Any) -> dict[str, Any]:
        """Ask and wait for the answer, for a while; see RoundTrips."""
        exercise = RoundTrips(self._clients, self.fail, **options)
        return await self._until_done(exercise, deadline)

    async def listen(self, run: int, messages: int) -> dict[str, Any]:
        """From now on each client is to get so many messages of this run; `heard` waits."""
        self._exercise = Listening(self._clients, self.fail, run, messages)
        return {}

    async def listen_for_pushes(self, run: int, pushes: int) -> dict[str, Any]:
        """From now on so many messages are to come, each to the client that it names."""
        self._exercise = Pushes(self._clients, self.fail, run, pushes)
        return {}

    async def heard(self, deadline: float) -> dict[str, Any]:
        return await self._until_done(self._exercise, deadline)

    async def probe(self, seconds: float, interval: float) -> dict[str, Any]:
        """How long a WebSocket ping takes now and then, on the first client's connection."""
        times = []
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.timeout(seconds + HANDSHAKE_TIMEOUT):
            while asyncio.get_running_loop().time() < until:
                times += await self._clients[0].ping()
                await asyncio.sleep(interval)
        return {
            "p50": quantile(times, 0.5) * 1e3,
            "p99": quantile(times, 0.99) * 1e3,
            "max": max(times) * 1e3,
        }

    async def resume(self, deadline: float) -> dict[str, Any]:
        """Let clients of the envelope protocol resume; done when all have."""
        for client in self._clients:
            client.resume()
        async with asyncio.timeout(deadline):
            for client in self._clients:
                await client.resumed.wait()
        return {"missed": {client.user: client.missed for client in self._clients}}

    async def _until_done(self, exercise: Exercise, deadline: float) -> dict[str, Any]:
        self._exercise = exercise
        exercise.start()
        try:
            async with asyncio.timeout(deadline):
                await exercise.done.wait()
        except TimeoutError:
            self.errors.append(f"after {deadline:g} seconds {exercise.missing}")
        self._exercise = Exercise(self._clients)
        return exercise.result()


def _socket(address: str) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    made.bind((address, 0))
    return made


async def obey(crowd: Crowd) -> None:
    """Follow the orders until stdin ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    orders: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
        "open": crowd.open,
        "close": crowd.close,
        "round_trips": crowd.round_trips,
        "listen": crowd.listen,
        "listen_for_pushes": crowd.listen_for_pushes,
        "heard": crowd.heard,
        "probe": crowd.probe,
        "resume": crowd.resume,
    }
    while line := await reader.readline():
        order = json.loads(line)
        crowd.errors.clear()
        try:
            answer = await orders[order.pop("do")](**order)
        # Whatever it is, the run must end with it.
        except Exception as error:
            answer = {}
            crowd.errors.append(f"{type(error).__name__}: {error}")
        if crowd.errors:
            answer["error"] = f"{crowd.errors[0]} ({len(crowd.errors)} errors)"
        print(json.dumps(answer), flush=True)


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(obey(Crowd(PROTOCOLS[sys.argv[1]])))


if __name__ == "__main__":
    main()

"""The load: WebSocket clients that ask and wait, or listen."""

import asyncio
import time
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect

#: Seconds after which an answer will not come.
DEADLINE = 60.0


async def round_trips(url: str, *, connections: int, seconds: float) -> tuple[int, list[float]]:
    """Ask on each connection, one question at a time; how many answers, and each one's seconds."""
    clients = await open_all(url, connections)
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def ask(client: ClientConnection) -> None:
        while (started := time.perf_counter()) < until:
            await client.send('{"text": "a message of some length, as people write them"}')
            async with asyncio.timeout(DEADLINE):
                await client.recv()
            latencies.append(time.perf_counter() - started)

    await asyncio.gather(*(ask(client) for client in clients))
    await close_all(clients)
    return len(latencies), latencies


async def fan_out(
    url: str, *, connections: int, messages: int, publish: Callable[[int], None]
) -> int:
    """Publish to all connections and wait until each has everything; the deliveries."""
    clients = await open_all(url, connections)

    async def hear(client: ClientConnection) -> None:
        for _ in range(messages):
            await client.recv()

    listening = [asyncio.create_task(hear(client)) for client in clients]
    await asyncio.to_thread(publish, messages)
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*listening)
    await close_all(clients)
    return connections * messages


async def open_all(url: str, count: int) -> list[ClientConnection]:
    clients: list[ClientConnection] = []
    for start in range(0, count, 100):
        some = range(min(100, count - start))
        clients += await asyncio.gather(
            *(connect(url, ping_interval=None, compression=None, max_queue=None) for _ in some)
        )
    return clients


async def close_all(clients: list[ClientConnection]) -> None:
    await asyncio.gather(*(client.close() for client in clients))

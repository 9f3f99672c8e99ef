"""Pings: a client that has silently gone is noticed, by one shared timer for all connections."""

import asyncio

from push_server.connections import Connections

#: Pings sent before other work of the loop goes on.
PINGS_AT_ONCE = 200


async def watch(connections: Connections, interval: float) -> None:
    """Ping every connection each `interval` seconds; drop those silent for two, for ever."""
    while True:
        await asyncio.sleep(interval)
        for index, connection in enumerate(connections, start=1):
            if connection.paused:
                # Its pong cannot be read while its lane is full: it is we who do not listen.
                continue
            if not connection.heard:
                connection.transport.abort(f"silent for {2 * interval:g} seconds")
                continue
            connection.heard = False
            connection.transport.ping()
            if index % PINGS_AT_ONCE == 0:
                await asyncio.sleep(0)

"""Pings: a client that has silently gone is noticed, by one timer for all connections."""

import asyncio
import itertools
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence

from push_server.clients.connections import Connection
from push_server.clients.envelope import Phase, ping_frame
from push_server.delivery.position import Position

#: Seconds between two turns of the wheel, at most.
LONGEST_TICK = 1.0
#: Turns in which a client that was pinged must be heard, at least.
FEWEST_TICKS = 5
#: Pings sent before other work of the loop goes on.
PINGS_AT_ONCE = 200


class Liveness:
    """A wheel of connections: each turn pings those of one slot, and drops those that were pinged
    some slots ago and have not been heard since."""

    def __init__(self, position: Position, *, interval: float, timeout: float) -> None:
        """
        Args:
            interval: seconds between two pings to one client.
            timeout: seconds in which it must be heard then.
        """
        self._position = position
        self._timeout = timeout
        self.tick = min(LONGEST_TICK, interval / FEWEST_TICKS, timeout / FEWEST_TICKS)
        # As dicts: sets whose order is that of their making.
        self._slots: list[dict[Connection, None]] = [
            {} for _ in range(math.ceil(interval / self.tick))
        ]
        #: Those that were pinged at the turns that are not judged yet.
        self._pinged: deque[list[Connection]] = deque()
        #: Counted, for `Connection.asked`: the turn of the first ping since its client was heard,
        #: for there may be more in that time.
        self._turn = 0
        self._patience = math.ceil(timeout / self.tick)
        self._turns = itertools.cycle(range(len(self._slots)))

    def add(self, connection: Connection) -> None:
        """Ping it from now on; thousands that come at once are spread over all slots."""
        slot = random.randrange(len(self._slots))
        self._slots[slot][connection] = None
        connection.slot = slot

    def remove(self, connection: Connection) -> None:
        """Ping it no more; to remove twice is harmless."""
        if connection.slot is not None:
            del self._slots[connection.slot][connection]
            connection.slot = connection.asked = None

    async def run(self) -> None:
        """Turn the wheel, for ever."""
        while True:
            await asyncio.sleep(self.tick)
            await self.turn()

    async def turn(self) -> None:
        """Ping one slot, and judge those that were pinged `timeout` ago."""
        self._turn += 1
        if len(self._pinged) >= self._patience:
            turn = self._turn - len(self._pinged)
            for connection in self._pinged.popleft():
                asked = connection.asked == turn
                if asked and not connection.heard and not connection.paused:
                    connection.transport.abort(f"silent for {self._timeout:g} seconds")
        pinged = list(self._slots[next(self._turns)])
        for some in batched(pinged, PINGS_AT_ONCE):
            self._ping(some)
            await asyncio.sleep(0)
        self._pinged.append(pinged)

    def _ping(self, connections: Sequence[Connection]) -> None:
        position = self._position
        # In the midst of a delivery, some have had more than is told here.
        told = ping_frame(None if position.delivering else position.offset)
        for connection in connections:
            state = connection.session
            if connection.paused:
                # While it is not read, its answer is not seen: it is we who do not listen.
                if state is None:
                    continue
                # Such a client leaves a server that it does not hear: it is told that we are there.
            else:
                if connection.heard or connection.asked is None:
                    connection.asked = self._turn
                connection.heard = False
            if state is None:
                connection.transport.ping()
            elif state.phase is Phase.LIVE and state.offset <= position.offset:
                connection.write(told)
            else:
                # It has not had everything up to there, or has had more elsewhere.
                connection.write(ping_frame(None))


def batched(items: Sequence[Connection], size: int) -> Iterator[Sequence[Connection]]:
    """The items in order, at most so many at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

"""An event loop with short iterations: each serves a few sockets only.

asyncio asks once an iteration which sockets have news, and serves all of them before it looks at
its clock, its timers and at sockets again. When thousands of clients come, speak or go at once,
such an iteration takes hundreds of milliseconds. Here an iteration serves some of them. The kernel
passes on the others in the order in which they came, before those who have news again.
"""

import asyncio
import math
import os
import select
import selectors
import socket
import sys
from collections.abc import Callable
from typing import Any

#: Sockets that are served in one iteration, at most. Each may take 0.3 ms: a handshake, a resume.
SOCKETS_AT_ONCE = 8
#: Connections that are accepted in one iteration, at most; Tornado would take 128.
ACCEPTED_AT_ONCE = 8


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop with short iterations, where the system has epoll."""
    if sys.platform == "linux":
        return asyncio.SelectorEventLoop(ShortIterations())
    else:
        return asyncio.new_event_loop()


if sys.platform == "linux":

    class ShortIterations(selectors.EpollSelector):
        """A selector that reports at most `SOCKETS_AT_ONCE` sockets at a time."""

        def __init__(self) -> None:
            super().__init__()
            # The same set of sockets: epoll(7) has it in the kernel, under both descriptors.
            self._epoll = select.epoll.fromfd(os.dup(self.fileno()))

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """Select as `selectors.EpollSelector` does, but no more than `SOCKETS_AT_ONCE`."""
            # epoll counts in milliseconds: never less than asked for.
            wait = -1 if timeout is None else math.ceil(max(0.0, timeout) * 1e3) / 1e3
            try:
                found = self._epoll.poll(wait, SOCKETS_AT_ONCE)
            except InterruptedError:
                return []
            keys = self.get_map()
            ready = []
            for descriptor, events in found:
                key = keys.get(descriptor)
                if key is not None:
                    reads = selectors.EVENT_READ if events & ~select.EPOLLOUT else 0
                    writes = selectors.EVENT_WRITE if events & ~select.EPOLLIN else 0
                    ready.append((key, (reads | writes) & key.events))
            return ready

        def close(self) -> None:
            self._epoll.close()
            super().close()


class Entrance(socket.socket):
    """A listening socket that accepts `ACCEPTED_AT_ONCE` at a time, although asked for more."""

    def __init__(self, opened: socket.socket, on_accept: Callable[[], None]) -> None:
        """
        Args:
            opened: the listening socket, which must not be used afterwards.
        """
        super().__init__(fileno=opened.detach())
        self.setblocking(False)
        self._accepted = 0
        self._on_accept = on_accept

    def accept(self) -> tuple[socket.socket, Any]:
        """
        Raises:
            BlockingIOError: when nobody waits, or the others have waited long enough.
        """
        if self._accepted == ACCEPTED_AT_ONCE:
            self._accepted = 0
            raise BlockingIOError
        accepted = super().accept()
        self._accepted += 1
        self._on_accept()
        return accepted

"""The inbox: messages that were received and not handed out yet, and the gaps among them."""

import asyncio
from collections import deque
from typing import Any


class GapMark:
    """Stands in the inbox where messages were missed."""


GAP = GapMark()


class InboxEnded(Exception):
    """Raised when all messages are handed out, and no more will come."""


class Inbox:
    """A bounded queue from the task that reads the socket to the one that takes the messages.

    Args:
        size: the largest number of messages that wait.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[Any] = deque()
        #: Whether messages before the first item were dropped.
        self._dropped = False
        self._ended = False
        #: Whether anybody has ever asked for a message.
        self._taken = False
        self._reader: asyncio.Future[None] | None = None
        self._taker: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        return len(self._items) >= self._size

    @property
    def taken(self) -> bool:
        """True as soon as a task has asked for a message once."""
        return self._taken

    # For the one that reads the socket.

    def put(self, message: Any) -> None:
        self._items.append(message)
        _wake(self._taker)

    def put_gap(self) -> None:
        if not self._items or self._items[-1] is not GAP:
            self.put(GAP)

    def drop_oldest(self) -> None:
        """Drop the oldest messages, so that there is room; `get` reports a gap in their place."""
        while self.full:
            self._items.popleft()
            self._dropped = True

    async def room(self) -> None:
        """Wait until half of the inbox is empty again, or `release` is called."""
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def release(self) -> None:
        """Let the reader go on, even without room."""
        _wake(self._reader)

    def end(self) -> None:
        """Note that no more messages come; `get` raises `InboxEnded` after the last one."""
        self._ended = True
        _wake(self._taker)

    def clear(self) -> None:
        """Drop all messages, without a gap."""
        self._items.clear()
        self._dropped = False

    # For the one that takes the messages.

    async def get(self) -> Any:
        """Wait for the next message, and return it; `GAP` where messages were missed.

        Raises:
            InboxEnded: when no more messages come.
            RuntimeError: when another task waits here already.
        """
        self._taken = True
        while not self._items and not self._dropped:
            if self._ended:
                raise InboxEnded
            await self._something()
        if self._dropped:
            self._dropped = False
            return GAP
        item = self._items.popleft()
        if len(self._items) <= self._size // 2:
            _wake(self._reader)
        return item

    async def _something(self) -> None:
        if self._taker is not None:
            raise RuntimeError("one task at a time takes the messages of a client")
        self._taker = asyncio.get_running_loop().create_future()
        try:
            await self._taker
        finally:
            self._taker = None


def _wake(future: "asyncio.Future[None] | None") -> None:
    if future is not None and not future.done():
        future.set_result(None)

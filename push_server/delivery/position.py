"""The position up to which this server has delivered the broadcast stream.

Pure, except that `Position.reach` waits on the event loop.
"""

import asyncio
import re

from queue_run.channel.listener import Offset, parse_offset

#: An offset as Redis writes it: two numbers of 64 bits.
_OFFSET = re.compile(r"[0-9]{1,20}-[0-9]{1,20}", re.ASCII)
_MAX = 2**64 - 1


class Position:
    """The offset up to which the broadcast stream is delivered, and the epoch of that stream."""

    def __init__(self) -> None:
        #: All entries up to this one have been written to their receivers.
        self.offset: Offset = (0, 0)
        #: The entry that is being written, or was written last.
        self.begun: Offset = (0, 0)
        #: Changes when Redis has lost the stream.
        self.epoch = ""
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def delivering(self) -> bool:
        """True while an entry is being written, which some clients have had and others not."""
        return self.begun != self.offset

    def move(self, offset: Offset) -> None:
        """Note that everything up to this offset is delivered."""
        self.offset = self.begun = offset
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    async def reach(self, offset: Offset, *, seconds: float) -> bool:
        """Wait until everything up to an offset is delivered, or so many seconds have passed.

        Another epoch ends the waiting, too: its offsets cannot be compared with this one's.

        Returns:
            Whether everything up to the offset is delivered.
        """
        if self.offset >= offset:
            return True
        epoch = self.epoch
        try:
            async with asyncio.timeout(seconds):
                while self.offset < offset and self.epoch == epoch:
                    moved = asyncio.get_running_loop().create_future()
                    self._waiting.append(moved)
                    await moved
        except TimeoutError:
            return False
        return self.offset >= offset and self.epoch == epoch


def offset_of_client(text: str) -> Offset | None:
    """Parse the offset that a client names; None for a text that is no offset of Redis."""
    if not _OFFSET.fullmatch(text):
        return None
    offset = parse_offset(text)
    return offset if max(offset) <= _MAX else None

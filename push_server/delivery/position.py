"""How far the broadcast stream has been delivered here. Pure, but for the loop that waits."""

import asyncio
import re

from queue_run.channel.listener import Offset, parse_offset

#: An offset as Redis writes it: two numbers of 64 bits.
_OFFSET = re.compile(r"[0-9]{1,20}-[0-9]{1,20}", re.ASCII)
_MAX = 2**64 - 1


class Position:
    """How far the broadcast stream has been delivered, and which stream that is."""

    def __init__(self) -> None:
        #: Everything up to here has been written to whom it is for.
        self.offset: Offset = (0, 0)
        #: The entry that is being written, or was last.
        self.begun: Offset = (0, 0)
        #: Changes when Redis has lost the stream.
        self.epoch = ""
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def delivering(self) -> bool:
        """Whether some clients have had more than others."""
        return self.begun != self.offset

    def move(self, offset: Offset) -> None:
        """Go on from here."""
        self.offset = self.begun = offset
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    async def reach(self, offset: Offset, *, seconds: float) -> bool:
        """Wait until everything up to an offset is delivered, for so long at most; whether it is.

        Another epoch ends the waiting: its offsets say nothing of this one's.
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
    """What a client says of its offset; None where it is none that Redis could have given."""
    if not _OFFSET.fullmatch(text):
        return None
    offset = parse_offset(text)
    return offset if max(offset) <= _MAX else None

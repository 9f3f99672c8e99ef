"""Stand-ins for a neighbour: each keeps what it is given, so that a test can look at it."""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from queue_run.broker.dispatch import Dispatcher
from queue_run.channel.memberships import Noted
from queue_run.channel.publisher import Counted, Publisher
from queue_run.channel.receipts import Receipt, Sending
from queue_run.contracts.answers import Answer
from queue_run.contracts.envelopes import ChannelEnvelope, Turn, Work, decode


class Published(NamedTuple):
    stream: str
    envelope: ChannelEnvelope
    max_entries: int
    create: bool
    counted: Counted | None
    #: "publish" blocks until the entry is there, "submit" does not.
    way: str


class RecordingPublisher(Publisher):
    """A publisher whose stream is a list. Each entry gets the next offset: 1-0, 2-0, …"""

    def __init__(self, *, confirms: bool = True) -> None:
        #: False leaves receipts open, until `confirm`.
        self.confirms = confirms
        self.published: list[Published] = []
        self.receipts: list[Sending] = []
        self.flushed = 0
        self.closed = 0

    def publish(
        self,
        stream: str,
        data: bytes,
        *,
        max_entries: int,
        create: bool = True,
        share: bool = False,
        counted: Counted | None = None,
        noted: Noted | None = None,
    ) -> Answer[Receipt]:
        sending = self._take(
            Published(stream, decode(data), max_entries, create, counted, "publish")
        )
        sending.now()
        return sending

    def submit(
        self,
        stream: str,
        data: bytes,
        *,
        max_entries: int,
        create: bool = True,
        share: bool = False,
        counted: Counted | None = None,
        noted: Noted | None = None,
    ) -> Answer[Receipt]:
        return self._take(Published(stream, decode(data), max_entries, create, counted, "submit"))

    def confirm(self) -> None:
        """Complete the receipts that are open."""
        for number, receipt in enumerate(self.receipts, start=1):
            if not receipt.done:
                receipt.complete(Receipt(f"{number}-0"))

    @property
    def envelopes(self) -> list[ChannelEnvelope]:
        return [each.envelope for each in self.published]

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed += 1

    def _take(self, published: Published) -> Sending:
        self.published.append(published)
        receipt = Sending()
        self.receipts.append(receipt)
        if self.confirms:
            receipt.complete(Receipt(f"{len(self.receipts)}-0"))
        return receipt


class RecordingTransport:
    """A socket that keeps its frames."""

    address = "192.0.2.1"

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.pings = 0
        self.closed: list[tuple[int, str]] = []
        self.aborted: list[str] = []
        #: Frames that it takes before it is jammed; None takes all.
        self.room: int | None = None
        self._unjammed = asyncio.Event()

    @property
    def jammed(self) -> bool:
        return self.room is not None and self.room <= 0

    async def unjammed(self) -> None:
        while self.jammed:
            self._unjammed.clear()
            await self._unjammed.wait()

    def drain(self, room: int | None) -> None:
        """Its client reads on: so many frames more."""
        self.room = room
        self._unjammed.set()

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)
        if self.room is not None:
            self.room -= 1

    def ping(self) -> None:
        self.pings += 1

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))

    def abort(self, why: str) -> None:
        self.aborted.append(why)


class RecordingDispatcher(Dispatcher):
    """A dispatcher without a broker."""

    def __init__(self) -> None:
        self.work: list[Work] = []
        #: What the requests of each turn are to be claimed by.
        self.names: list[Sequence[str] | None] = []
        self.silence_for(0)

    def silence_for(self, seconds: float) -> None:
        """As if the broker had not answered for so many seconds."""
        self._reached_at = time.monotonic() - seconds

    def submit(self, work: Work, names: Sequence[str] | None = None) -> None:
        self.work.append(work)
        self.names.append(names)

    @property
    def turns(self) -> list[list[str | bytes]]:
        """What each turn carries."""
        return [[each.data for each in turn.requests] for turn in self.whole_turns]

    @property
    def whole_turns(self) -> list[Turn]:
        return [each for each in self.work if isinstance(each, Turn)]

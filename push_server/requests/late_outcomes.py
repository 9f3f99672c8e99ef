"""Outcomes of requests that were sent to a worker for another connection of their session.

The client has repeated them here. Their outcomes stand, or will stand, in the stream of the push
server that sent them, which may be this one, another, or one that has died.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from push_server.requests.claims import Holder
from queue_run.channel.listener import ANSWER_TIMEOUT, contents, parse_offset
from queue_run.contracts.envelopes import Outcome, decode
from queue_run.contracts.ids import ConnectionId, RequestId, server_of_request
from queue_run.contracts.keys import Keys
from queue_run.errors import InvalidEnvelope

log = logging.getLogger(__name__)

#: Entries of a stream that are read at once.
PAGE = 200
#: Seconds between two looks at streams that have nothing new; longer while they have none.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25


class Wanted(msgspec.Struct, frozen=True):
    """A request that waits for an outcome, and until when (monotonic, in seconds)."""

    connection: ConnectionId
    request: RequestId
    until: float


@dataclass(slots=True)
class _OutcomeStream:
    #: What was read already; nothing before it can be wanted.
    position: str
    wanted: dict[RequestId, Wanted] = field(default_factory=dict)


class LateOutcomes:
    """Looks for outcomes in the streams where they must come, as long as somebody waits."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        *,
        keep: int,
    ) -> None:
        """
        Args:
            keep: seconds for which a stream that is looked at is kept, should its server have died.
        """
        self._keep = keep
        self._client = client
        self._keys = keys
        self._deliver: Callable[[Outcome], None] = _deliver_to_nobody
        self._streams: dict[str, _OutcomeStream] = {}
        self._wanting = asyncio.Event()

    def want(self, holder: Holder, wanted: Wanted) -> None:
        """Deliver the outcome of the holder's request as that of the wanted one."""
        name = self._keys.server(server_of_request(holder.request))
        # An outcome is written after its request was claimed, by the same clock.
        start = f"({max(0, holder.since - 1)}-0"
        stream = self._streams.setdefault(name, _OutcomeStream(start))
        stream.position = min(stream.position, start, key=_sortable)
        stream.wanted[holder.request] = wanted
        self._wanting.set()

    async def run(self, deliver: Callable[[Outcome], None]) -> None:
        """Look for outcomes, for ever.

        Args:
            deliver: gets each outcome that is found.
        """
        self._deliver = deliver
        pause = FIRST_PAUSE
        while True:
            await self._wanting.wait()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    found = [await self._look(*pair) for pair in list(self._streams.items())]
            except (RedisError, OSError) as error:
                log.info("outcomes cannot be looked for now: %s", str(error) or type(error))
                found = []
            self._forget_overdue()
            pause = FIRST_PAUSE if any(found) else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _look(self, name: str, stream: _OutcomeStream) -> bool:
        """Read the next page of one stream; False when there was nothing."""
        start = stream.position
        pipeline = self._client.pipeline(transaction=False)
        pipeline.xrange(name, start, "+", count=PAGE)
        pipeline.expire(name, self._keep)
        page: list[tuple[bytes, dict[bytes, bytes]]] = (await pipeline.execute())[0]
        for offset, fields in page:
            for data in contents(fields, parse_offset(offset)[0]):
                self._take(stream, data)
        # Somebody may have asked for what stands before it meanwhile.
        if page and stream.position == start:
            stream.position = f"({page[-1][0].decode()}"
        return bool(page)

    def _take(self, stream: _OutcomeStream, data: bytes) -> None:
        try:
            envelope = decode(data)
        except InvalidEnvelope:
            # The server whose stream this is logs it.
            return
        if not isinstance(envelope, Outcome):
            return
        wanted = stream.wanted.pop(envelope.request, None)
        if wanted is not None:
            self._deliver(
                msgspec.structs.replace(
                    envelope, connection=wanted.connection, request=wanted.request
                )
            )

    def _forget_overdue(self) -> None:
        """Forget requests whose time is over: their clients have been told so."""
        now = time.monotonic()
        for name, stream in list(self._streams.items()):
            for holder, wanted in list(stream.wanted.items()):
                if wanted.until < now:
                    del stream.wanted[holder]
            if not stream.wanted:
                del self._streams[name]
        if not self._streams:
            self._wanting.clear()


def _deliver_to_nobody(outcome: Outcome) -> None:
    """Drop an outcome: before `run`, nothing is looked for."""


def _sortable(position: str) -> Any:
    milliseconds, _, number = position.removeprefix("(").partition("-")
    return int(milliseconds), int(number)

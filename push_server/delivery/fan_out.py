"""Writing what one batch of the channel has to the sockets of its receivers."""

import asyncio
import logging
from collections.abc import Awaitable

from push_server.clients import plain
from push_server.clients.connections import Connection
from push_server.clients.envelope import Phase, Session
from push_server.clients.envelope import message_frame as envelope_frame
from queue_run.channel.listener import Offset
from queue_run.contracts.messages import Message

log = logging.getLogger(__name__)

#: Writes to sockets, and frames kept back for one, after which the loop gets to do its other work.
WRITES_AT_ONCE = 200
FRAMES_AT_ONCE = 5_000
#: Bytes of messages after which what was kept back is sent, and what the kernel did not take at
#: once gets its turn.
BYTES_AT_ONCE = 64 * 1024


class Delivery:
    """Delivers one batch after another; one object for all, since most have one message.

    The messages of a batch for one connection leave in one piece: they are kept back until the
    batch is through. A message alone leaves at once.
    """

    __slots__ = ("_corked", "bytes", "writes")

    def __init__(self) -> None:
        #: What the batch has cost since the loop had its turn: in writes, and in bytes of messages.
        self.writes = 0
        self.bytes = 0
        #: Connections whose messages are kept back; None while a batch has one entry.
        self._corked: list[Connection] | None = None

    def begin(self) -> None:
        """A batch of several entries begins. For one alone, `writes` and `bytes` become 0."""
        self.writes = self.bytes = 0
        self._corked = []

    async def end(self) -> None:
        """The batch is through: send what was kept back."""
        await self._uncork()
        self._corked = None

    def fan_out(
        self, offset: Offset, message: Message, receivers: list[Connection]
    ) -> Awaitable[None] | None:
        if not receivers:
            return None
        if len(receivers) == 1 and self._corked is None and receivers[0].session is None:
            # As most are: a message alone, to a user with one plain client.
            receivers[0].write(plain.message_frame(message))
            return None
        fan_out = FanOut(offset, message)
        self.bytes += len(fan_out.frame)
        at_once = WRITES_AT_ONCE if self._corked is None else FRAMES_AT_ONCE
        if self.writes + len(receivers) > at_once or self.bytes >= BYTES_AT_ONCE:
            return self._fan_out_in_parts(fan_out, receivers, at_once)
        self.writes += len(receivers)
        self._write(receivers, fan_out)
        return None

    async def _fan_out_in_parts(
        self, fan_out: "FanOut", receivers: list[Connection], at_once: int
    ) -> None:
        """Let the loop do its other work in between: reading, and sending what the kernel did not
        take at once."""
        for start in range(0, len(receivers), at_once):
            self._write(receivers[start : start + at_once], fan_out)
            await asyncio.sleep(0)
        self.writes = 0
        if self.bytes >= BYTES_AT_ONCE:
            self.bytes = 0
            await self._uncork()
            await asyncio.sleep(0)

    def _write(self, receivers: list[Connection], fan_out: "FanOut") -> None:
        corked, plain_frame = self._corked, fan_out.frame
        for connection in receivers:
            if connection.session is None:
                frame = plain_frame
            elif (wrapped := fan_out.wrapped_for(connection.session)) is not None:
                frame = wrapped
            else:
                continue
            if corked is not None and connection.corked is None:
                connection.cork()
                corked.append(connection)
            connection.write(frame)

    async def _uncork(self) -> None:
        """Send what was kept back."""
        corked = self._corked
        if not corked:
            return
        self._corked = []
        for start in range(0, len(corked), WRITES_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            for connection in corked[start : start + WRITES_AT_ONCE]:
                try:
                    connection.uncork()
                except Exception:
                    log.exception("%s: what was kept back could not be sent", connection)


class FanOut:
    """A message on its way to many: encoded once for each protocol that they speak."""

    __slots__ = ("_message", "_offset", "_wrapped", "frame")

    def __init__(self, offset: Offset, message: Message) -> None:
        self._offset = offset
        self._message = message
        #: For plain clients.
        self.frame = plain.message_frame(message)
        self._wrapped: bytes | None = None

    def wrapped_for(self, state: Session) -> bytes | None:
        """The bytes for a client that speaks the envelope protocol; None when it has the message,
        or will have it later."""
        if state.phase is not Phase.LIVE or self._offset <= state.offset:
            return None
        if self._wrapped is None:
            self._wrapped = envelope_frame(self._message, self._offset)
        return self._wrapped

"""The continuity of the channel. When it has lost entries, clients are told of a gap.

Where offsets begin anew, another epoch begins, too.
"""

import asyncio
import logging

import redis.asyncio

from push_server.delivery import epoch
from push_server.delivery.hub import Hub
from push_server.delivery.position import Position
from push_server.delivery.resume import Resumption
from push_server.delivery.session_rooms import SessionRooms
from push_server.delivery.window import Window
from queue_run.channel.listener import Listener, LostEntries, Offset
from queue_run.contracts.keys import Keys

log = logging.getLogger(__name__)


class Continuity:
    """Notices when the channel has lost entries, and tells clients of a gap."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        listener: Listener,
        position: Position,
        *,
        hub: Hub,
        session_rooms: SessionRooms,
        resumption: Resumption,
        window: Window,
        window_time: float,
    ) -> None:
        """
        Args:
            window_time: seconds for which the window holds what was sent.
        """
        self._redis = client
        self._keys = keys
        self._listener = listener
        self._position = position
        self._hub = hub
        self._session_rooms = session_rooms
        self._resumption = resumption
        self._window = window
        self._window_ms = round(window_time * 1000)
        #: Set when an epoch has ended here: `check` is to tell the others soon.
        self.check_due = asyncio.Event()
        #: The epoch that was in force when offsets were seen to begin anew, until Redis knows it.
        self._ended: str | None = None
        #: The epoch before the one that is in force, and where clients were told that it ended.
        self._former: str | None = None
        self._told_at: Offset | None = None

    async def read_epoch(self) -> None:
        """Learn in which epoch this server begins.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        self._position.epoch = await epoch.read(self._redis, self._keys)

    async def open(self) -> None:
        """Take the ends of the streams as the place to start from.

        Raises:
            redis.exceptions.RedisError, TimeoutError: when Redis does not answer.
        """
        await self._listener.open()

    async def fill_window(self) -> None:
        """Take in what was sent before this server's time, for clients that come from others.

        Raises:
            redis.exceptions.RedisError, TimeoutError: when Redis does not answer.
        """
        broadcast = self._keys.broadcast
        end = self._listener.position(broadcast)
        begin = (max(0, end[0] - self._window_ms), 0)
        since = await self._listener.complete_since(broadcast, begin)
        self._window.clear(since)
        async for page in self._listener.before(broadcast, since):
            for entry in page:
                self._hub.prime(entry)
        self._position.move(end)

    def take_gap(self, gap: LostEntries) -> None:
        """Tell clients of a gap, since the listener has passed over entries, or may have.

        Entries that were lost on this server's own stream are only logged.
        """
        if gap.stream != self._keys.broadcast:
            were = "were" if gap.history is None else "may have been"
            log.error("answers on %s %s lost before this server could read them", gap.stream, were)
            return
        position = self._position
        if gap.history is not None and self._is_known(gap.history):
            if self._told_at == position.begun == self._listener.position(gap.stream):
                # The others were faster, and nothing has come in between.
                return
        elif gap.history is not None:
            self._end_epoch(epoch.after(position.epoch, gap.history))
        elif gap.went_back:
            # Until the next heartbeat has made another epoch known, none is valid here.
            self._end_epoch(epoch.new_epoch())
        if gap.history is not None:
            log.error("another Redis took over, and may lack messages: clients are told of a gap")
        else:
            log.error("messages on %s were lost before this server could read them", gap.stream)
        position.move(self._listener.position(gap.stream))
        self._tell(anew=gap.history is not None or gap.went_back)

    async def check(self) -> None:
        """Tell clients of a gap when Redis has lost its data, and with it their messages.

        Raises:
            redis.exceptions.RedisError: when Redis does not answer.
        """
        position = self._position
        ended, reached = self._ended, position.begun
        if await epoch.not_before(self._redis, self._keys) < reached:
            # A copy of Redis that lacks the last entries, or an emptied one, and its clock is
            # behind: what is sent now would stand before what was read.
            self._listener.doubt()
        if ended is not None:
            await epoch.renew(self._redis, self._keys, ended, position.epoch)
        found = await epoch.read(self._redis, self._keys)
        if self._ended != ended:
            # Meanwhile offsets have begun anew: the next heartbeat ends that epoch.
            return
        if found != position.epoch and not self._listener.connected:
            # Nothing is delivered meanwhile, and the listener may find out why: clients are to be
            # told once.
            return
        self._ended = None
        if found != position.epoch:
            log.error("Redis has lost the channel's data: clients are told of a gap")
            self._former, position.epoch = position.epoch, found
            self._tell(anew=True)
        elif ended is None:
            return
        self._session_rooms.renew(anew=True)

    def _is_known(self, history: str) -> bool:
        """Tell whether the current epoch began because of the Redis with this history."""
        return self._former is not None and (
            self._position.epoch == epoch.after(self._former, history)
        )

    def _end_epoch(self, following: str) -> None:
        self._ended = self._ended or self._position.epoch
        self._former, self._position.epoch = self._position.epoch, following
        self.check_due.set()

    def _tell(self, *, anew: bool) -> None:
        """
        Args:
            anew: another epoch has begun.
        """
        self._told_at = self._position.begun
        self._hub.release()
        self._resumption.tell_gap_to_all(anew=anew)

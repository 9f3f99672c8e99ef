"""Telling Redis which users have connections here, and that this server lives.

What is true is here; what Redis was told follows it, in batches. After an outage the two are
compared, so that however it went, the last state wins.
"""

import asyncio
import itertools
import logging
import math
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from push_server.delivery.epoch import new_epoch
from queue_run.channel.listener import ANSWER_TIMEOUT
from queue_run.contracts.ids import ServerId, UserId
from queue_run.contracts.keys import Keys
from queue_run.presence import AT_ONCE, MORE, UNKNOWN, ScriptCall, Scripts, chunks
from queue_run.settings import Settings
from queue_run.storage.fullness import Fullness, is_full
from queue_run.storage.links import async_client, drop_idle

log = logging.getLogger(__name__)

#: Seconds between two sweeps, at most. Each is a heartbeat too.
SWEEP_INTERVAL = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
#: Seconds in which those who come or go while others are told of are gathered.
BUSY_PAUSE = 0.01
#: Seconds in which a server that ends takes its users offline; the others do the rest.
CLOSING_TIME = 1.0


class Presence:
    """The users of one push server."""

    def __init__(
        self, settings: Settings, server: ServerId, *, watched: Callable[[], bool]
    ) -> None:
        """
        Args:
            watched: whether the application is called for users who come and go.
        """
        self._server = server
        self._watched = watched
        self._users_key = Keys(settings.namespace).users_of(server)
        self._scripts = Scripts(settings, server)
        self._delay = settings.offline_delay
        self._interval = min(SWEEP_INTERVAL, settings.heartbeat_interval)
        # Its time limit is ANSWER_TIMEOUT, around each use (see the listener's).
        self._client = async_client(settings.redis_url, connect_timeout=ANSWER_TIMEOUT, retries=0)
        #: Users with connections here.
        self._here: set[UserId] = set()
        #: Users that Redis holds for this server, as far as it has confirmed it.
        self._held: set[UserId] = set()
        #: Users in whom the two may differ, in the order in which they came and went.
        self._changed: dict[UserId, None] = {}
        #: Users whose departure Redis may not have passed on yet, with its time; infinite while
        #: Redis has not confirmed it.
        self._departed: dict[UserId, float] = {}
        self._fullness = Fullness(log, "Redis is not told who comes online")
        self._news = asyncio.Event()
        self._registered = False
        self._epoch: str | None = None
        self._next_sweep = 0.0

    def arrived(self, user: UserId) -> None:
        """The user's first connection here is open."""
        self._here.add(user)
        self._note(user)

    def left(self, user: UserId) -> None:
        """The user's last connection here has ended."""
        self._here.discard(user)
        self._note(user)

    def _note(self, user: UserId) -> None:
        self._changed[user] = None
        self._news.set()

    async def run(self) -> None:
        """Tell Redis, for ever; its absence only makes it wait."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._step()
            except (RedisError, OSError) as error:
                if is_full(error):
                    # It does the rest, and has done it.
                    self._fullness.refused()
                else:
                    await self._lost(error)
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._fullness.taken()
                pause = FIRST_PAUSE
                if self._changed:
                    # Many come or go at once: more of them share the next round trip.
                    await asyncio.sleep(BUSY_PAUSE)
                await self._wait_for_news()

    async def _lost(self, error: Exception) -> None:
        if self._registered:
            log.warning("Redis is not told who is online: %s", str(error) or type(error))
        self._registered = False
        await drop_idle(self._client)

    async def close(self) -> None:
        """Take all users of this server offline. Nothing may be told any more."""
        try:
            async with asyncio.timeout(CLOSING_TIME):
                while await self._call(self._scripts.retire(watched=self._watched())) == MORE:
                    pass
        except (RedisError, OSError) as error:
            log.info("this server's users are left to the others: %s", str(error) or type(error))
        await self._client.aclose()

    async def _step(self) -> None:
        if not self._registered:
            await self._register()
        # First what a full Redis does, too.
        if time.monotonic() >= self._next_sweep:
            await self._sweep()
        if self._registered:
            await self._tell()

    async def _wait_for_news(self) -> None:
        if self._changed or not self._registered:
            return
        self._news.clear()
        wake = asyncio.get_running_loop().call_later(
            max(0.0, self._next_sweep - time.monotonic()), self._news.set
        )
        try:
            await self._news.wait()
        finally:
            wake.cancel()

    async def _register(self) -> None:
        """Find out what Redis holds of this server, and see to it that it gets the rest."""
        heartbeat, found_epoch = await self._call(self._scripts.register(new_epoch()))
        epoch = found_epoch.decode()
        held = await self._members()
        # A server that others took for dead has users whose departure they have told of. Else what
        # is missing was lost with Redis' data: the application has been told, and is not again.
        lost = epoch != self._epoch or (heartbeat is not None and float(heartbeat) > 0)
        if self._epoch is not None and lost:
            missing = (self._held | self._just_departed()) - held
            for users in chunks(missing):
                await self._call(self._scripts.arrive(users, watched=self._watched(), silent=True))
                held.update(users)
            if missing:
                log.warning("Redis had lost %d users of this server", len(missing))
        self._epoch = epoch
        self._held = held
        self._departed.clear()
        self._changed = dict.fromkeys((*self._changed, *(self._here ^ held)))
        self._registered = True

    def _just_departed(self) -> set[UserId]:
        since = time.monotonic() - self._delay
        return {user for user, at in self._departed.items() if at > since}

    async def _tell(self) -> None:
        """Bring Redis up to date with some of the users that have come or gone."""
        some = list(itertools.islice(self._changed, AT_ONCE))
        for user in some:
            del self._changed[user]
        came = [user for user in some if user in self._here and user not in self._held]
        went = [user for user in some if user not in self._here and user in self._held]
        if went:
            # Whether it happens is not known before the answer is there.
            self._held.difference_update(went)
            self._note_departures(went, math.inf)
            answer = await self._call(self._scripts.depart(went, watched=self._watched()))
            if self._knows_us(answer):
                self._note_departures(went, time.monotonic())
            else:
                self._held.update(went)
        if came and self._registered:
            await self._tell_arrivals(came)

    async def _tell_arrivals(self, came: list[UserId]) -> None:
        try:
            answer = await self._call(self._scripts.arrive(came, watched=self._watched()))
        except RedisError as error:
            if is_full(error):
                # The next time.
                self._changed = dict.fromkeys((*came, *self._changed))
            raise
        if self._knows_us(answer):
            self._held.update(came)

    def _note_departures(self, users: Iterable[UserId], at: float) -> None:
        for user in users:
            self._departed.pop(user, None)
            self._departed[user] = at
        since = time.monotonic() - self._delay
        while self._departed and self._departed[next(iter(self._departed))] < since:
            del self._departed[next(iter(self._departed))]

    async def _sweep(self) -> None:
        answer = await self._call(self._scripts.sweep(watched=self._watched()))
        if self._knows_us(answer) and answer != MORE:
            self._next_sweep = time.monotonic() + self._interval

    def _knows_us(self, answer: int) -> bool:
        if answer == UNKNOWN:
            log.warning("Redis does not know this server any more: it registers again")
            self._registered = False
        return self._registered

    async def _call(self, call: ScriptCall) -> Any:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            client: Any = self._client
            script, given = call.script, (call.keys, call.arguments)
            try:
                return await client.evalsha(*script.given_by_sha(*given))
            except NoScriptError:
                # On a new link: with an error, fakeredis ends the old one.
                await client.connection_pool.disconnect()
                return await client.eval(*script.given(*given))

    async def _members(self) -> set[UserId]:
        members: set[UserId] = set()
        async with asyncio.timeout(ANSWER_TIMEOUT):
            async for user in self._client.sscan_iter(self._users_key, count=AT_ONCE):
                members.add(UserId(user.decode()))
        return members

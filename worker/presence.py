"""Telling the application which users have come online and gone offline.

Push servers leave events in a stream. One process of all workers at a time holds a lease and runs
`on_online` and `on_offline` for them: users side by side, the events of one user in order. An event
is deleted when its function has ended. Those of a process that was killed meanwhile are run again
by the one that takes over; so each is run at least once, and once unless a process dies.
"""

import asyncio
import collections
import logging
import queue
import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from queue_run.contracts.ids import UserId
from queue_run.contracts.keys import Keys
from queue_run.errors import HandlerTimeout
from queue_run.settings import Settings
from queue_run.storage.patience import longest_answer, watched_client
from queue_run.storage.script_files import Script, load
from queue_run.storage.scripts import milliseconds
from queue_run.threads.vital import VitalThread
from worker.application.middleware import Hook, Middleware, ends_the_process
from worker.application.routes import Routes
from worker.ending import end_worker
from worker.running.intake import Intake

log = logging.getLogger(__name__)

#: Seconds that `on_online` and `on_offline` may take.
HOOK_TIME = 10.0
#: Users for whom functions run at once: they share the threads with handlers.
SIDE_BY_SIDE = 8
#: Events that are taken from the stream and have not ended, at most.
MOST_OPEN = 200
#: Seconds between two tries to get the lease, at most.
TRY_INTERVAL = 1.0
#: Seconds for which events are waited for, and an end of those that were begun.
IDLE_WAIT, BUSY_WAIT = 0.5, 0.05
#: Seconds that the functions which run get at the end of the process.
LAST_WAIT = 5.0

# The lease: taken if nobody has it, changed only if it is still ours.
_TAKE = load("presence/take_lease")
_RENEW = load("presence/renew_lease")
_RELEASE = load("presence/release_lease")


class Event(NamedTuple):
    """A user has come or gone."""

    #: Its place in the stream.
    id: str
    user: UserId
    online: bool


class PresenceWatcher:
    """A thread of every worker that serves sockets. Only one of all these threads is at work."""

    def __init__(self, settings: Settings, routes: Routes, intake: Callable[[], Intake]) -> None:
        self._keys = Keys(settings.namespace)
        self._lease = settings.lease
        self._token = secrets.token_hex(8)
        limit = longest_answer(settings.publish_timeout)
        self._client: Any = watched_client(
            settings.redis_url,
            timeout=limit + IDLE_WAIT,
            connect_timeout=limit,
            retry=Retry(NoBackoff(), 0),
        )
        self._routes = routes
        self._intake = intake
        self._hooks: HookRunner | None = None
        #: Up to when the lease is ours for sure, by our own clock.
        self._held_until = 0.0
        self._next_renewal = 0.0
        self._position = "0"
        self._stopped = threading.Event()
        self._thread = VitalThread(self._run, name="queue-run-presence", on_loss=end_worker)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing new; return when what runs has ended, or its time is over."""
        self._stopped.set()
        self._thread.join()

    def _may_begin(self) -> bool:
        """Tell whether an event may be begun: no other process can have taken over yet."""
        return not self._stopped.is_set() and time.monotonic() < self._held_until

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._step()
            except (RedisError, OSError) as error:
                log.warning("users who come and go are told of later: %s", error)
                self._pause()
            except Exception:
                # Without this thread nothing would be told any more.
                log.exception("telling of users who come and go failed unexpectedly")
                self._pause()
        self._end()

    def _step(self) -> None:
        if self._hooks is not None:
            self._delete(self._hooks.ended())
            if self._hooks.abandoned and not self._hooks.open:
                self._hooks.resume()
                self._position = "0"
        if self._keep_lease():
            self._read()
        else:
            self._pause()

    def _pause(self) -> None:
        longest = min(TRY_INTERVAL, self._lease / 3)
        self._stopped.wait(random.uniform(longest / 2, longest))

    def _keep_lease(self) -> bool:
        """Renew the lease, or try to get it; True when it is ours."""
        if time.monotonic() < self._next_renewal:
            return True
        self._next_renewal = 0.0
        if self._held_until and self._changes_lease(_RENEW):
            return True
        self._held_until = 0.0
        if not self._changes_lease(_TAKE):
            return False
        # Others may have been at work: from the first event that is left.
        self._position = "0"
        return True

    def _changes_lease(self, script: Script) -> bool:
        """Take or renew the lease; True when it is ours then."""
        now = time.monotonic()
        key, lease = self._keys.presence_lease, milliseconds(self._lease)
        if not self._client.eval(*script.given([key], [self._token, lease])):
            return False
        self._held_until = now + self._lease
        self._next_renewal = now + self._lease / 3
        return True

    def _has_lost_lease(self) -> bool:
        """Tell whether Redis knows nothing of our lease any more, and renew the lease otherwise.

        A Redis that was emptied gives the lease to another process, which may then run the events
        that we have read.
        """
        if self._changes_lease(_RENEW):
            return False
        self._held_until = self._next_renewal = 0.0
        return True

    def _read(self) -> None:
        """Hand on what is new in the stream."""
        if self._hooks is None:
            # Late: a process that never gets the lease needs no loop for it.
            self._hooks = HookRunner(self._routes, self._intake(), may_begin=self._may_begin)
        if self._hooks.open:
            # What has ended is deleted at once, so that nobody runs it again.
            self._hooks.wait_for_end(BUSY_WAIT)
        room = MOST_OPEN - self._hooks.open
        if room <= 0 or self._hooks.abandoned:
            return
        answer = self._client.xread(
            {self._keys.presence: self._position},
            count=room,
            block=None if self._hooks.open else milliseconds(IDLE_WAIT),
        )
        entries = _entries(answer)
        if entries and self._has_lost_lease():
            return
        for entry_id, fields in entries:
            self._position = entry_id
            event = _event(entry_id, fields)
            if event is not None:
                self._hooks.begin(event)
            else:
                self._delete([entry_id])

    def _delete(self, entries: list[str]) -> None:
        if entries:
            try:
                self._client.xdel(self._keys.presence, *entries)
            except (RedisError, OSError):
                # They have ended: they must not be run again once Redis is back.
                assert self._hooks is not None
                self._hooks.keep_ended(entries)
                raise

    def _end(self) -> None:
        """Wait for what runs, and let another process take over at once."""
        try:
            until = time.monotonic() + LAST_WAIT
            while self._hooks is not None and time.monotonic() < until:
                self._delete(self._hooks.ended())
                if not self._hooks.open:
                    break
                self._hooks.wait_for_end(BUSY_WAIT)
            self._client.eval(*_RELEASE.given([self._keys.presence_lease], [self._token]))
        except (RedisError, OSError) as error:
            log.info("the lease of presence is left to expire: %s", error)
        self._client.close()


class HookRunner:
    """Runs the application's functions on the loop of its handlers."""

    def __init__(self, routes: Routes, intake: Intake, *, may_begin: Callable[[], bool]) -> None:
        self._routes = routes
        self._intake = intake
        self._loop = intake.background.loop
        self._may_begin = may_begin
        self._room = asyncio.Semaphore(SIDE_BY_SIDE)
        #: The events that wait, by user, of those for whom something runs.
        self._waiting: dict[UserId, collections.deque[Event]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
        self._any_ended = threading.Event()
        #: Events that were begun, and whose end has not been asked for.
        self._open: set[str] = set()
        self._kept: list[str] = []
        #: Whether an event was not begun since the lease may be another's. Then no later one is
        #: either, so that the order is kept; the stream still has them all.
        self.abandoned = False

    @property
    def open(self) -> int:
        """The number of events that have not ended, as far as `ended` has told."""
        return len(self._open)

    def begin(self, event: Event) -> None:
        """Run the function for an event behind the earlier ones of its user, if it does not wait
        or run already."""
        if event.id not in self._open:
            self._open.add(event.id)
            self._loop.call_soon_threadsafe(self._enqueue, event)

    def ended(self) -> list[str]:
        """The events that have run since the last call."""
        self._any_ended.clear()
        done, self._kept = self._kept, []
        self._open.difference_update(done)
        while not self._ended.empty():
            event_id, has_run = self._ended.get()
            self._open.discard(event_id)
            if has_run:
                done.append(event_id)
        return done

    def wait_for_end(self, seconds: float) -> None:
        """Return when `ended` has something to tell, or after so many seconds."""
        self._any_ended.wait(seconds)

    def resume(self) -> None:
        """Begin events again, when none of those before is left."""
        self.abandoned = False

    def keep_ended(self, events: list[str]) -> None:
        """Let `ended` return these events once more, and do not run them meanwhile."""
        self._kept += events
        self._open.update(events)

    def _enqueue(self, event: Event) -> None:
        if event.user in self._waiting:
            self._waiting[event.user].append(event)
            return
        self._waiting[event.user] = collections.deque([event])
        task = self._loop.create_task(self._run_user(event.user))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_user(self, user: UserId) -> None:
        """Run everything that waits for one user, in order."""
        waiting = self._waiting[user]
        while waiting:
            async with self._room:
                event = waiting.popleft()
                self.abandoned = self.abandoned or not self._may_begin()
                has_run = not self.abandoned
                if has_run:
                    await self._run_hook(event)
            self._ended.put((event.id, has_run))
            self._any_ended.set()
        del self._waiting[user]

    async def _run_hook(self, event: Event) -> None:
        try:
            with self._routes.around.task():
                await run_hook(
                    self._routes, self._intake.middleware, event.user, online=event.online
                )
        except (Exception, KeyboardInterrupt):
            # What follows of this user would wait for it for ever.
            log.exception("what is done when %s comes or goes failed unexpectedly", event.user)


async def run_hook(routes: Routes, middleware: Middleware, user: UserId, *, online: bool) -> None:
    """Run what the application has for a user who has come or gone; `on_error` is called for its
    failure."""
    hook = routes.online if online else routes.offline
    if hook is None:
        return
    try:
        await _within_its_time(middleware, hook, user)
    except BaseException as error:
        if ends_the_process(error):
            raise
        await middleware.failed(routes.hooks, error, None)


async def _within_its_time(middleware: Middleware, hook: Hook, user: UserId) -> None:
    """
    Raises:
        HandlerTimeout: when it takes longer. A plain function goes on in its thread.
    """
    try:
        async with asyncio.timeout(HOOK_TIME) as limit:
            await middleware.call(hook, user)
    except TimeoutError:
        if limit.expired():
            raise HandlerTimeout(HOOK_TIME) from None
        raise


def _entries(answer: Any) -> list[tuple[str, dict[bytes, bytes]]]:
    """Decode the answer of XREAD for its one stream, in the form of RESP2 or RESP3."""
    if not answer:
        return []
    if isinstance(answer, dict):
        [page] = next(iter(answer.values()))
    else:
        [[_, page]] = answer
    found = cast("list[tuple[bytes, dict[bytes, bytes]]]", page)
    return [(entry_id.decode(), fields) for entry_id, fields in found]


def _event(entry_id: str, fields: dict[bytes, bytes]) -> Event | None:
    """Decode an event; None for an entry that cannot be read, which is logged."""
    try:
        user = UserId(fields[b"user"].decode())
        return Event(entry_id, user, online=fields[b"online"] == b"1")
    except (KeyError, UnicodeDecodeError):
        log.error("an entry of the stream of presence cannot be read: %s", entry_id)
        return None

"""The push server put together: start, heartbeat, graceful stop."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Coroutine
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

from redis.exceptions import RedisError
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.routing import Matcher, Rule

from push_server.clients import session_secret
from push_server.clients.connections import Connections
from push_server.clients.sessions import Seals
from push_server.delivery import epoch
from push_server.delivery.continuity import Continuity
from push_server.delivery.hub import Hub
from push_server.delivery.liveness import Liveness
from push_server.delivery.position import Position
from push_server.delivery.resume import Resumption
from push_server.delivery.session_rooms import SessionRooms
from push_server.delivery.trimming import Trimming
from push_server.delivery.window import Window
from push_server.http.admission import Hosts
from push_server.http.handlers import (
    HealthHandler,
    MisdirectedHandler,
    PublicFileHandler,
    ReadyHandler,
    SocketHandler,
)
from push_server.http.http_server import Server
from push_server.http.push_handler import PushHandler, ReservedHandler
from push_server.http.pushes import Pushes
from push_server.http.reception import Reception
from push_server.http.services import Services
from push_server.presence import Presence
from push_server.requests.application import Application
from push_server.requests.claims import Claiming, Claims
from push_server.requests.forwarder import Forwarder
from push_server.requests.late_outcomes import LateOutcomes
from push_server.rfc6455 import opening
from push_server.timekeeper import Timekeeper
from push_server.transport.event_loop import Entrance
from push_server.transport.lag import LagMonitor
from queue_run.broker.celery_app import create_celery
from queue_run.broker.dispatch import Dispatcher
from queue_run.channel.listener import ANSWER_TIMEOUT, Listener
from queue_run.contracts.envelopes import Hello, encode
from queue_run.contracts.ids import new_server_id
from queue_run.contracts.keys import Keys
from queue_run.jobs.attempts import Attempts
from queue_run.jobs.lanes import Lanes
from queue_run.jobs.pushing import JobPusher
from queue_run.settings import Settings, without_password
from queue_run.storage.clock import Clock
from queue_run.storage.fullness import Fullness, is_full
from queue_run.storage.links import async_client, drop_idle
from queue_run.storage.patience import Unready
from queue_run.storage.scripts import Store
from queue_run.threads.vital import end_process_within

log = logging.getLogger(__name__)

#: Seconds in which a client must have sent its handshake (Tornado's own default is an hour).
HANDSHAKE_TIMEOUT = 10
#: Seconds in which a client must have sent the body of its request.
BODY_TIMEOUT = 10
#: Seconds without an answer after which the broker counts as away: two looks at it, and as long as
#: an answer may take, and some more.
BROKER_SILENCE = 8.0
#: Seconds between two looks, at the start, at a Redis that does not do its part.
UNREADY_PAUSE = 2.0
#: Seconds at the end of a shutdown in which close frames are answered.
CLOSING_TIME = 1.0
#: Seconds in which a server that has lost a part of itself closes its connections and ends: most of
#: it may be deaf.
LOST_TIME = 5.0


# A full Redis runs it, since its first write only expires: so that a server can be started there.
_CREATE_STREAM = """
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""


class CannotStart(Exception):
    """Something outside is missing; the text says what, and what to do."""


class PartLost(Exception):
    """A part that serves every connection has ended of a defect; the log has it."""


class PushServer:
    """One push server process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keys(settings.namespace)
        self.id = new_server_id()
        self._stream = self._keys.server(self.id)
        # Its time limit is ANSWER_TIMEOUT, around each use (see the listener's).
        self._redis = async_client(settings.redis_url, connect_timeout=ANSWER_TIMEOUT, retries=1)
        clock = Clock()
        self._timekeeper = Timekeeper(
            self._redis,
            self._keys,
            clock,
            name=f"push server {self.id} on {socket.gethostname()}",
            expiry=settings.heartbeat_expiry,
        )
        self._fullness = Fullness(
            log, "nothing is sent, and workers only finish what they have. /readyz says 503"
        )
        self._listener = Listener(
            settings.redis_url,
            [self._keys.broadcast, self._stream],
            on_gap=lambda gap: self._continuity.take_gap(gap),
            clock=clock,
            kept_entries=settings.broadcast_entries,
            # What an entry takes in Redis is more than its bytes.
            kept_bytes=settings.stream_bytes // 4,
        )
        self._trimming = Trimming(
            self._redis,
            clock,
            broadcast=self._keys.broadcast,
            own=self._stream,
            max_bytes=settings.stream_bytes,
            # As long as claims of requests are remembered after these have ended.
            kept_time=2 * settings.session_time,
            kept_bytes=settings.window_bytes,
            interval=settings.heartbeat_interval,
        )
        self._presence = Presence(
            settings, self.id, watched=lambda: self._application.watches_users
        )
        self._connections = Connections(self.id, self._presence)
        self._application = Application(self._redis, self._keys)
        celery = create_celery(settings)
        self._store = Store(settings, patience=settings.publish_timeout, clock=clock)
        self._claiming = Claiming(
            Claims(self._store),
            self._keys.claim,
            session_time=settings.session_time,
            clock=clock,
            untold=lambda session: self._session_rooms.untold(session),
        )
        self._dispatcher = Dispatcher(
            celery,
            self._keys.sockets_queue,
            claim=self._claiming,
            clock=clock,
            on_loss=partial(self._lose_from_thread, "the dispatcher"),
        )
        self._pushes = Pushes(
            JobPusher(
                lambda: celery,
                Lanes(self._store, lease=settings.lease),
                Attempts(self._store, lease=settings.lease, visibility=settings.visibility_timeout),
                patience=settings.publish_timeout,
            ),
            publish_timeout=settings.publish_timeout,
            on_loss=partial(self._lose_from_thread, "the thread that pushes jobs"),
        )
        self._late_outcomes = LateOutcomes(
            self._redis,
            self._keys,
            lambda outcome: self._hub.take_late(outcome),
            keep=self._stream_expiry,
        )
        self._forwarder = Forwarder(
            settings,
            self._connections,
            self._application,
            self._dispatcher,
            self._late_outcomes,
            clock,
        )
        self._position = Position()
        self._window = Window(
            max_age=settings.window_time,
            max_bytes=settings.window_bytes,
            max_rooms=settings.max_rooms,
        )
        self._session_rooms = SessionRooms(
            self._redis,
            self._keys,
            self._connections,
            self._position,
            session_time=settings.session_time,
            window_time=settings.window_time,
        )
        self._seals = Seals(settings.session_secret.encode() or session_secret.new_secret())
        self._resumption = Resumption(
            self._window, self._position, self._connections, self._session_rooms, self._seals
        )
        self._liveness = Liveness(
            self._position, interval=settings.ping_interval, timeout=settings.ping_timeout
        )
        self._hub = Hub(
            self._connections,
            self._forwarder,
            broadcast=self._keys.broadcast,
            position=self._position,
            window=self._window,
            session_rooms=self._session_rooms,
            trimming=self._trimming,
            on_application_changed=self._refresh_application,
            max_rooms=settings.max_rooms,
        )
        #: Set when a heartbeat is due at once.
        self._beat_soon = asyncio.Event()
        self._continuity = Continuity(
            self._redis,
            self._keys,
            self._listener,
            self._position,
            hub=self._hub,
            session_rooms=self._session_rooms,
            resumption=self._resumption,
            on_ended=self._beat_soon.set,
        )
        self._services = Services(
            settings,
            self.id,
            self._connections,
            self._application,
            self._forwarder,
            pushes=self._pushes,
            position=self._position,
            resumption=self._resumption,
            liveness=self._liveness,
            clock=clock,
        )
        self._services.channel_connected = lambda: self._listener.connected
        self._services.broker_reached = lambda: self._dispatcher.silence < BROKER_SILENCE
        self._services.channel_full = lambda: bool(self._fullness)
        self._services.notes = lambda: self._timekeeper.notes
        self._lag = LagMonitor()
        self._tasks: list[asyncio.Task[None]] = []
        #: Set when it is to stop: it was told to, or has lost a part.
        self._ending = asyncio.Event()
        self._lost: str | None = None
        #: Whether background tasks are cancelled.
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.port = settings.port

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop gracefully.

        Raises:
            CannotStart: when Redis does not answer or the port is taken.
            PartLost: when a part of it ended unexpectedly. Its connections were closed as on a
                stop, as far as that was possible in `LOST_TIME`.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        server = await self._start()
        if server is None:
            return
        await self._ending.wait()
        if self._lost is None:
            await self._stop(server, grace=self._settings.shutdown_grace)
        else:
            await self._stop_what_is_left(server)
            raise PartLost(f"{self._lost} ended unexpectedly: this push server has ended")

    async def _stop_what_is_left(self, server: HTTPServer) -> None:
        # For a loop that is held up.
        last_resort = end_process_within(2 * LOST_TIME)
        try:
            async with asyncio.timeout(LOST_TIME):
                await self._stop(server, grace=LOST_TIME - 2 * CLOSING_TIME)
        except Exception as error:
            log.error("the push server ends before everything is closed: %r", error)
        last_resort.cancel()

    async def _open_channel_when_ready(self) -> bool:
        """Wait for a Redis that is there and does not do its part; False when told to stop.

        Raises:
            RedisError, OSError: when none is there.
        """
        # It keeps nothing yet of what all push servers share.
        full = Fullness(log, "this server waits for it")
        while not self._ending.is_set():
            try:
                await self._open_channel()
            except Unready as error:
                log.warning("Redis does not do its part, this server waits for it: %s", error)
            except RedisError as error:
                if not is_full(error):
                    raise
                full.refused()
            else:
                return True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UNREADY_PAUSE):
                    await self._ending.wait()
        return False

    async def _start(self) -> HTTPServer | None:
        """Open everything; None when it was told to stop meanwhile.

        Raises:
            CannotStart: see `run`.
        """
        self._loop = asyncio.get_running_loop()
        try:
            if not await self._open_channel_when_ready():
                return None
        except (RedisError, OSError) as error:
            raise CannotStart(
                f"Redis at {without_password(self._settings.redis_url)} does not answer ({error}): "
                "start it, or set REDIS_URL"
            ) from None
        sockets = self._bind()
        self._claiming.start(self._forwarder.held_elsewhere)
        self._dispatcher.start()
        self._lag.start()
        self._background(self._listener.run(self._hub.deliver), "hub")
        self._background(self._heartbeat(), "heartbeat")
        self._background(self._presence.run(), "presence")
        self._background(self._liveness.run(), "pings")
        self._background(self._late_outcomes.run(), "late outcomes")
        self._background(self._session_rooms.run(), "rooms of sessions")
        self._background(self._trimming.run(), "trimming")
        server = Server(
            self._http_application(),
            idle_connection_timeout=HANDSHAKE_TIMEOUT,
            max_header_size=16 * 1024,
            # A handler that takes larger ones says so.
            max_body_size=64 * 1024,
            body_timeout=BODY_TIMEOUT,
        )
        server.add_sockets(sockets)
        self._services.collector.start()
        log.info("push server %s listens on http://%s:%d", self.id, self._settings.host, self.port)
        return server

    def _bind(self) -> list[socket.socket]:
        settings = self._settings
        try:
            sockets = bind_sockets(
                settings.port, settings.host, backlog=1024, reuse_port=settings.reuse_port
            )
        except OSError as error:
            raise CannotStart(
                f"port {settings.port} of {settings.host} cannot be opened ({error.strerror}): "
                "set PORT to another one"
            ) from None
        self.port = sockets[0].getsockname()[1]
        return [Entrance(each, self._services.collector.step) for each in sockets]

    def _http_application(self) -> web.Application:
        settings = self._settings
        rules: list[Any] = [
            Rule(_OtherHosts(self._services.hosts), MisdirectedHandler),
            (r"/healthz", HealthHandler, {"lag": self._lag}),
            (r"/readyz", ReadyHandler, {"services": self._services}),
            (r"/_/queues/([^/]+)", PushHandler, {"services": self._services}),
            (r"/_/.*", ReservedHandler),
        ]
        sockets = (r"/.*", SocketHandler, {"reception": Reception(self._services)})
        if settings.public_dir:
            files = {
                "path": os.path.realpath(settings.public_dir),
                "default_filename": "index.html",
            }
            rules.append(Rule(_PlainRequests(), PublicFileHandler, files))
        return web.Application(
            [*rules, sockets],
            log_function=_log_access,
            tell_refusal=self._services.tell_refusal,
        )

    async def _open_channel(self) -> None:
        async with asyncio.timeout(3 * ANSWER_TIMEOUT):
            await self._timekeeper.measure()
            self._position.epoch = await epoch.read(self._redis, self._keys)
            await self._agree_on_secret()
            await self._create_stream()
            await self._listener.open()
            await self._application.refresh()
        await self._fill_window()

    async def _fill_window(self) -> None:
        """Take in what was sent lately, for clients that come from other servers."""
        broadcast = self._keys.broadcast
        end = self._listener.position(broadcast)
        begin = (max(0, end[0] - round(self._settings.window_time * 1000)), 0)
        since = await self._listener.complete_since(broadcast, begin)
        self._window.clear(since)
        async for page in self._listener.before(broadcast, since):
            for entry in page:
                self._hub.prime(entry)
        self._position.move(end)

    async def _create_stream(self) -> None:
        arguments = (encode(Hello()), self._stream_expiry)
        await self._redis.eval(_CREATE_STREAM, 1, self._stream, *arguments)

    @property
    def _stream_expiry(self) -> int:
        """Seconds for which this server's stream outlives its last heartbeat: clients that have
        resumed elsewhere find the outcomes of their requests in it."""
        return round(self._settings.heartbeat_expiry + self._settings.session_time)

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        """A background task serves every connection, and ends when it is cancelled on shutdown."""
        error = None if task.cancelled() else task.exception()
        if self._stopped and error is None:
            return
        log.critical("%s ended unexpectedly", task.get_name(), exc_info=error)
        self._lose(task.get_name())

    def _lose_from_thread(self, part: str) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._lose, part)

    def _lose(self, part: str) -> None:
        self._lost = self._lost or part
        self._ending.set()

    async def _heartbeat(self) -> None:
        """Keep this server's stream alive, and what is known of the application fresh."""
        while True:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    await self._beat()
            except (RedisError, OSError) as error:
                if is_full(error):
                    self._fullness.refused()
                else:
                    log.warning("no heartbeat: %s", str(error) or type(error))
                    await drop_idle(self._redis)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.heartbeat_interval):
                    await self._beat_soon.wait()
            self._beat_soon.clear()

    async def _beat(self) -> None:
        # First what a full Redis takes too.
        kept = await self._redis.expire(self._stream, self._stream_expiry)
        await self._application.refresh()
        await self._look_for_room()
        await self._continuity.check()
        await self._agree_on_secret()
        if not kept:
            log.warning("Redis has lost this server's stream: it is made anew")
            await self._create_stream()
        await self._timekeeper.renew()

    async def _look_for_room(self) -> None:
        """Learn whether Redis is full, by a command that would change nothing."""
        try:
            await self._redis.setrange(self._keys.probe, 0, "")
        except RedisError as error:
            if not is_full(error):
                raise
            self._fullness.refused()
        else:
            self._fullness.taken()

    async def _agree_on_secret(self) -> None:
        if not self._settings.session_secret:
            await session_secret.agree(self._redis, self._keys, self._seals)

    async def _refresh_application(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await self._application.refresh()
        except (RedisError, OSError) as error:
            log.warning("the manifest could not be read, the next heartbeat tries: %s", error)
        if self._settings.expose_errors and not self._application.available:
            # In development it is known at once that there is no worker: who connects need not
            # wait to learn why. Elsewhere one may come in time.
            self._forwarder.give_up_handshakes()

    async def _stop(self, server: HTTPServer, *, grace: float) -> None:
        """Accept no more, let outcomes come in, close the connections, then everything else.

        Args:
            grace: seconds that connections have.
        """
        log.info("stopping: %d connections have up to %g seconds", len(self._connections), grace)
        self._services.closing = True
        server.stop()
        waiting = max(0.1, grace - 2 * CLOSING_TIME)
        await asyncio.gather(self._forwarder.drain(waiting), self._pushes.drain(waiting))
        await self._connections.wait_until_empty(CLOSING_TIME)
        await asyncio.gather(
            asyncio.to_thread(self._dispatcher.close, CLOSING_TIME),
            asyncio.to_thread(self._pushes.close, CLOSING_TIME),
        )
        self._store.close()
        self._lag.stop()
        self._services.collector.stop()
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(self._presence.close(), self._close_channel())
        log.info("stopped")

    async def _close_channel(self) -> None:
        try:
            async with asyncio.timeout(CLOSING_TIME):
                await self._session_rooms.close()
                # Not deleted: it may hold outcomes for clients that resume elsewhere.
                await self._redis.expire(self._stream, round(self._settings.session_time))
        except (RedisError, OSError) as error:
            log.info("what this server leaves in Redis expires a little later: %s", error)
        await self._redis.aclose()
        await self._listener.close()


class _OtherHosts(Matcher):
    """Requests to a name that is not this server's, whatever their path."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return None if self._hosts.admits(request.host) else {}


class _PlainRequests(Matcher):
    """Requests that are no WebSocket: files and sockets may share a path."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        if opening.asks_for_websocket(request.headers):
            return None
        return {"path_args": [unquote_to_bytes(request.path.lstrip("/"))]}


def _log_access(handler: web.RequestHandler) -> None:
    """Without the query, which may hold tokens."""
    log.debug("%d %s", handler.get_status(), handler.request.path)

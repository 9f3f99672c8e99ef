"""One push server: its start, its life, its graceful stop."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine, Iterator
from typing import Any

from redis.exceptions import RedisError

from push_server.parts import Parts
from push_server.upkeep.lifetime import Lifetime, PartLost
from queue_run.settings import Settings
from queue_run.threads.vital import end_process_within

log = logging.getLogger(__name__)

#: Seconds at the end of a shutdown in which close frames are answered.
CLOSING_TIME = 1.0
#: Seconds in which a server that has lost a part of itself closes its connections and ends: most of
#: it may be deaf.
LOST_TIME = 5.0


class PushServer:
    """One push server process; made on its event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.lifetime = Lifetime()
        self.parts = Parts(settings, self.lifetime)

    @property
    def port(self) -> int:
        return self.parts.http.site.port

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop gracefully.

        Raises:
            CannotStart: when Redis does not answer or the port is taken.
            PartLost: when a part of it ended unexpectedly. Its connections were closed as on a
                stop, as far as that was possible in `LOST_TIME`.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.lifetime.end)
        if not await self.parts.upkeep.joining.join():
            return
        self.parts.http.site.bind()
        with contextlib.ExitStack() as last_resort:
            async with asyncio.TaskGroup() as group:
                tasks = self._start(group)
                await self.lifetime.ended()
                lost = self.lifetime.lost
                if lost is None:
                    await self._stop(self._settings.shutdown_grace)
                else:
                    # A loop that is held up cannot end the process: a thread does it then.
                    last_resort.callback(end_process_within(2 * LOST_TIME).cancel)
                    await self._stop_what_is_left()
                self.lifetime.finish()
                for task in tasks:
                    task.cancel()
            await self._leave()
        if lost is not None:
            raise PartLost(f"{lost} ended unexpectedly: this push server has ended")

    def _start(self, task_group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        requests, site = self.parts.requests, self.parts.http.site
        requests.claiming.start(requests.forwarder.held_elsewhere)
        requests.dispatcher.start()
        tasks = [
            task_group.create_task(self.lifetime.guard(work, part), name=part)
            for part, work in self._works()
        ]
        site.serve()
        where = f"http://{self._settings.host}:{site.port}"
        log.info("push server %s listens on %s", self.parts.ground.id, where)
        return tasks

    def _works(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """Yield the parts that serve all connections: the name and the coroutine of each."""
        ground, requests, delivery = self.parts.ground, self.parts.requests, self.parts.delivery
        yield "hub", delivery.listener.run(delivery.hub.deliver, delivery.continuity.take_gap)
        yield "heartbeat", self.parts.upkeep.heartbeat.run()
        yield "presence", ground.presence.run()
        yield "pings", delivery.liveness.run()
        yield "late outcomes", requests.late_outcomes.run(delivery.hub.take_late)
        yield "rooms of sessions", ground.session_rooms.run()
        yield "trimming", delivery.trimming.run()

    async def _stop(self, grace: float) -> None:
        """Accept no more connections, wait for outcomes, and close the connections.

        Args:
            grace: seconds that all of this may take.
        """
        self.parts.http.site.close()
        await self._wind_down(grace)

    async def _stop_what_is_left(self) -> None:
        """Stop within `LOST_TIME` seconds, after a part of this server was lost.

        The HTTP site is closed last: until then `/readyz` names the lost part.
        """
        try:
            async with asyncio.timeout(LOST_TIME):
                await self._wind_down(LOST_TIME - 2 * CLOSING_TIME)
        except Exception as error:
            log.error("the push server ends before everything is closed: %r", error)
        self.parts.http.site.close()

    async def _wind_down(self, grace: float) -> None:
        ground, requests, http = self.parts.ground, self.parts.requests, self.parts.http
        log.info("stopping: %d connections have up to %g seconds", len(ground.connections), grace)
        http.services.closing = True
        waiting = max(0.1, grace - 2 * CLOSING_TIME)
        await asyncio.gather(requests.forwarder.wind_down(waiting), http.pushes.wind_down(waiting))
        await ground.connections.wait_until_empty(CLOSING_TIME)
        await asyncio.gather(
            asyncio.to_thread(requests.dispatcher.close, CLOSING_TIME),
            asyncio.to_thread(http.pushes.close, CLOSING_TIME),
        )
        ground.store.close()
        http.site.end()

    async def _leave(self) -> None:
        """Take users offline, write the last changes to Redis, and close the links to Redis."""
        ground = self.parts.ground
        await asyncio.gather(ground.presence.close(), self._leave_sessions())
        await ground.redis.aclose()
        await self.parts.delivery.listener.close()
        log.info("stopped")

    async def _leave_sessions(self) -> None:
        ground = self.parts.ground
        try:
            async with asyncio.timeout(CLOSING_TIME):
                await ground.session_rooms.close()
                await ground.stream.leave()
        except (RedisError, OSError) as error:
            log.info("what this server leaves in Redis expires a little later: %s", error)

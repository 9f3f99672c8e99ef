"""One run of `queue-run dev`, from the first process to the last."""

import asyncio
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from queue_run.cli.command_line.environment import for_development, is_set
from queue_run.cli.command_line.errors import CommandError
from queue_run.cli.development import banner
from queue_run.cli.development.console import Console
from queue_run.cli.development.processes.absence import Absence
from queue_run.cli.development.processes.programs import jobs_worker, push_server, sockets_worker
from queue_run.cli.development.processes.readiness import reachable_host, wait_until_ready
from queue_run.cli.development.redis_server import embedded as embedded_redis
from queue_run.cli.development.reloading import Reloader
from queue_run.cli.development.stop_signals import StopSignals
from queue_run.cli.development.watch import changes, describe
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.supervisor import Supervisor
from queue_run.settings import Settings, without_password

#: Processes keep to `shutdown_grace` themselves; this much later, something hangs.
STOP_MARGIN = 3.0


class DevelopmentRun:
    """Redis, push server and workers, until a signal ends them.

    Args:
        environ: what `settings` were read from.
        port: a port that is free.
    """

    def __init__(
        self, *, settings: Settings, environ: Mapping[str, str], port: int, console: Console
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._port = port
        self._console = console
        self._signals = StopSignals()
        self._reloader: Reloader | None = None

    async def run(self) -> None:
        """Run until stopped.

        Raises:
            CommandError: if it cannot start.
        """
        self._signals.install()
        self._console.on_closed = self._signals.request
        # The reaper removes the folder, after the Redis that works in it has ended.
        folder = _temporary_folder()
        with ProcessGroups(folder) as groups:
            supervisor = Supervisor(groups, self._console)
            work = asyncio.create_task(self._work(supervisor, groups, folder))
            try:
                await self._until_stopped(work)
            finally:
                work.cancel()
                await self._stop(supervisor)

    async def _work(self, supervisor: Supervisor, groups: ProcessGroups, folder: Path) -> None:
        # Watching begins first: a change while the workers load the application is seen.
        await asyncio.gather(
            self._reload_on_change(), self._run_programs(supervisor, groups, folder)
        )

    async def _run_programs(
        self, supervisor: Supervisor, groups: ProcessGroups, folder: Path
    ) -> None:
        redis_url = await self._start_redis(supervisor, groups, folder)
        environ = for_development(
            self._environ, self._settings, redis_url=redis_url, port=self._port
        )
        own_broker = not is_set(self._environ, "redis_url") and not is_set(
            self._environ, "broker_url"
        )
        supervisor.add(push_server(self._settings, environ))
        self._reloader = reloader = Reloader(
            partial(sockets_worker, self._settings, environ),
            jobs_worker(self._settings, environ, folder=folder, own_broker=own_broker),
            folder=folder,
            supervisor=supervisor,
            groups=groups,
            console=self._console,
        )
        absence = Absence(Settings.from_env(environ))
        self._console.on_exited = absence.ended
        reloader.start()
        await asyncio.gather(
            supervisor.watch(),
            reloader.run(),
            absence.run(),
            self._announce(supervisor, redis_url),
        )

    async def _start_redis(
        self, supervisor: Supervisor, groups: ProcessGroups, folder: Path
    ) -> str:
        if is_set(self._environ, "redis_url"):
            await embedded_redis.check_redis(self._settings.redis_url)
            return self._settings.redis_url
        source = embedded_redis.choose_source()
        if source.slow:
            self._console.say(
                f"warning: no Redis server on this machine, {source.name} stands in: it is slow "
                "and only for trying things. Install redis-server, or pip install 'queue-run[dev]'"
            )
        program, child, url = await embedded_redis.start_private_redis(
            source, folder=folder, environ=self._environ, groups=groups
        )
        supervisor.add(program, child=child)
        return url

    async def _announce(self, supervisor: Supervisor, redis_url: str) -> None:
        host = reachable_host(self._settings.host)
        await wait_until_ready(host, self._port, states=supervisor.states, say=self._console.say)
        self._console.announce(
            banner.rows(
                host=host,
                port=self._port,
                app=self._settings.app_path,
                redis_url=without_password(redis_url),
            )
        )

    async def _reload_on_change(self) -> None:
        try:
            async for names in changes(self._settings.app_path):
                self._console.say(f"{describe(names)} changed: the workers restart")
                # Without workers yet there is nothing to reload: they will load what is there.
                if self._reloader is not None:
                    self._reloader.ask()
        except OSError as error:
            self._console.say(f"warning: files are not watched: {error}")

    async def _until_stopped(self, work: asyncio.Task[None]) -> None:
        requested = asyncio.create_task(self._signals.requested.wait())
        await asyncio.wait({work, requested}, return_when=asyncio.FIRST_COMPLETED)
        requested.cancel()
        if not work.done():
            self._console.stopping()
            return
        try:
            work.result()
        except OSError as error:
            raise CommandError(f"a process cannot be started: {error}") from error

    async def _stop(self, supervisor: Supervisor) -> None:
        grace = self._settings.shutdown_grace + STOP_MARGIN
        stopping = asyncio.create_task(supervisor.stop(grace))
        forced = asyncio.create_task(self._signals.forced.wait())
        await asyncio.wait({stopping, forced}, return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if not stopping.done():
            supervisor.kill()
        await stopping


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="queue-run-"))
    except OSError as error:
        raise CommandError(
            f"queue-run dev keeps its own files in a folder for temporary files ({error}): set "
            "TMPDIR to a folder that it may write to"
        ) from error

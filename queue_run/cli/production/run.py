"""One run of `queue-run start`, from the first process to the last."""

import asyncio

from queue_run.cli.command_line.errors import CommandError, CommandFailed
from queue_run.cli.development.console import Console
from queue_run.cli.development.stop_signals import StopSignals
from queue_run.cli.production.formation import Formation
from queue_run.cli.production.readiness import Readiness
from queue_run.cli.production.rolling import RollingRestart
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.supervisor import Supervisor
from queue_run.settings import Settings

#: Log levels at which processes write that they are ready.
TELLING_LEVELS = ("DEBUG", "INFO")


class ProductionRun:
    """The processes of a Procfile, until a signal ends them.

    Args:
        formation: what is to run: asked at the start, and at each rolling restart.
    """

    def __init__(self, formation: Formation, *, settings: Settings, console: Console) -> None:
        self._formation = formation
        self._places = formation.places()
        self._settings = settings
        self._console = console
        self._readiness = Readiness(console)
        self._signals = StopSignals()
        self._restart = asyncio.Event()

    async def run(self) -> None:
        """Run until stopped.

        Raises:
            CommandFailed: if the system starts no process.
        """
        self._signals.install(on_hangup=self._restart.set)
        self._console.on_closed = self._signals.request
        self._console.say(f"in {self._formation.folder.described()}")
        self._console.say(self._formation.procfile.described())
        # No temporary folder: there may be none that this user may write to.
        with ProcessGroups(None, grace=self._settings.shutdown_grace) as groups:
            supervisor = Supervisor(groups, self._readiness)
            for place in self._places:
                supervisor.add(place.program)
            work = asyncio.create_task(self._work(supervisor, groups))
            try:
                await self._until_stopped(work)
            finally:
                work.cancel()
                await asyncio.wait({work})
                await self._stop(supervisor)

    async def _work(self, supervisor: Supervisor, groups: ProcessGroups) -> None:
        await asyncio.gather(supervisor.watch(), self._restart_on_request(supervisor, groups))

    async def _restart_on_request(self, supervisor: Supervisor, groups: ProcessGroups) -> None:
        """Do a rolling restart for each request. A request during a restart asks for one more."""
        while await self._restart.wait():
            self._restart.clear()
            if self._settings.log_level not in TELLING_LEVELS:
                self._console.say(
                    "no rolling restart: it reads in the log when a process is ready, "
                    f"which needs QUEUE_RUN_LOG_LEVEL={' or '.join(TELLING_LEVELS)}"
                )
                continue
            try:
                wanted = self._formation.places()
                self._console.say(f"rolling restart in {self._formation.folder.described()}")
            except CommandError as error:
                self._console.say(f"no rolling restart, all stays as it is: {error.message}")
                continue
            await RollingRestart(
                self._places,
                wanted,
                supervisor=supervisor,
                groups=groups,
                readiness=self._readiness,
                grace=self._settings.shutdown_grace,
                say=self._console.say,
            ).run()

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
            raise CommandFailed(f"a process cannot be started: {error}") from error

    async def _stop(self, supervisor: Supervisor) -> None:
        # Without a deadline: push servers keep to theirs, workers finish what they have accepted,
        # and whoever sent the signal knows how long that may take.
        stopping = asyncio.create_task(supervisor.stop(grace=None))
        forced = asyncio.create_task(self._signals.forced.wait())
        await asyncio.wait({stopping, forced}, return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if not stopping.done():
            supervisor.kill()
        await stopping

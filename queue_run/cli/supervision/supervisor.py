"""All programs of one session: started, restarted on a change, stopped in order."""

import asyncio
from collections.abc import Iterable

from queue_run.cli.supervision.child import ChildProcess
from queue_run.cli.supervision.groups import ProcessGroups
from queue_run.cli.supervision.keeper import Keeper, State
from queue_run.cli.supervision.reporter import Program, Reporter


class Supervisor:
    """Keeps programs running until `stop`."""

    def __init__(self, groups: ProcessGroups, reporter: Reporter) -> None:
        self._groups = groups
        self._reporter = reporter
        self._tasks: dict[Keeper, asyncio.Task[None]] = {}

    def add(self, program: Program, *, child: ChildProcess | None = None) -> None:
        """Keep a program running from now on; `child` is its process, if it runs already."""
        keeper = Keeper(program, groups=self._groups, reporter=self._reporter, child=child)
        self._tasks[keeper] = asyncio.create_task(keeper.run(), name=program.name)

    async def watch(self) -> None:
        """Wait until every program was stopped.

        Raises:
            OSError: if a process could not be started.
        """
        # Not `gather`: whoever stops waiting here must not cancel the programs.
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    def states(self) -> dict[str, State]:
        """What each program does now, by name."""
        return {keeper.program.name: keeper.state for keeper in self._tasks}

    def reload(self) -> None:
        """Restart the programs that run the application's code, and no others."""
        for keeper in self._tasks:
            if keeper.program.reloads:
                keeper.restart()

    async def stop(self, grace: float) -> None:
        """Stop all programs together, then those that are to go last."""
        last = [keeper for keeper in self._tasks if keeper.program.stops_last]
        await self._stop(self._tasks.keys() - set(last), grace)
        await self._stop(last, grace)

    def kill(self) -> None:
        """Kill everything at once; a `stop` that is under way then returns."""
        for keeper in self._tasks:
            keeper.kill()

    async def _stop(self, keepers: Iterable[Keeper], grace: float) -> None:
        chosen = list(keepers)
        for keeper in chosen:
            keeper.stop(grace)
        # What a keeper raised is raised by `watch`; here the others must still be stopped.
        await asyncio.gather(*(self._tasks[each] for each in chosen), return_exceptions=True)

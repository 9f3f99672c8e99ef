"""All programs of one session: started, restarted on a change, stopped in order."""

import asyncio
from collections.abc import Sequence

from queue_run.cli.supervision.child import ChildProcess
from queue_run.cli.supervision.keeper import Keeper, ProcessState
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program, Reporter, StopStage


class Supervisor:
    """Keeps programs running until `stop`."""

    def __init__(self, groups: ProcessGroups, reporter: Reporter) -> None:
        self._groups = groups
        self._reporter = reporter
        self._tasks: dict[Keeper, asyncio.Task[None]] = {}
        self._added = asyncio.Event()

    def add(self, program: Program, *, child: ChildProcess | None = None) -> None:
        """Keep a program running from now on; `child` is its process, if it runs already."""
        keeper = Keeper(program, groups=self._groups, reporter=self._reporter, child=child)
        self._tasks[keeper] = asyncio.create_task(keeper.run(), name=program.name)
        self._added.set()

    async def watch(self) -> None:
        """Wait until every program was stopped, those that are added meanwhile too."""
        while pending := {task for task in self._tasks.values() if not task.done()}:
            self._added.clear()
            added = asyncio.create_task(self._added.wait())
            # Not `gather`: whoever stops waiting here must not cancel the programs.
            try:
                await asyncio.wait({*pending, added}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                added.cancel()
            self._raise_failure()
        self._raise_failure()

    def states(self) -> dict[str, ProcessState]:
        """The present state of each program, by name."""
        return {keeper.program.name: keeper.state for keeper in self._tasks}

    def reload(self) -> None:
        """Restart the programs that run the application's code, and no others."""
        for keeper in self._tasks:
            if keeper.program.reloads:
                keeper.restart()

    async def restart(self, old: Program, new: Program, *, grace: float | None) -> None:
        """Stop one program and start another in its place; returns between the two.

        Args:
            grace: seconds until it is killed; None for never.
        """
        await self._keeper(old).renew(new, grace)

    async def remove(self, program: Program, *, grace: float | None) -> None:
        """Stop one program for good.

        Args:
            grace: seconds until it is killed; None for never.
        """
        keeper = self._keeper(program)
        await self._stop([keeper], grace)
        del self._tasks[keeper]

    async def stop(self, grace: float | None) -> None:
        """Stop all programs, those of one stage together.

        Args:
            grace: seconds that each stage has until it is killed; None for no limit.
        """
        for stage in StopStage:
            await self._stop([each for each in self._tasks if each.program.stops is stage], grace)

    def kill(self) -> None:
        """Kill everything at once; a `stop` that is under way then returns."""
        for keeper in self._tasks:
            keeper.kill()

    def _raise_failure(self) -> None:
        for task in self._tasks.values():
            if task.done():
                task.result()

    def _keeper(self, program: Program) -> Keeper:
        # By identity: a program and its successor may be equal.
        return next(keeper for keeper in self._tasks if keeper.program is program)

    async def _stop(self, keepers: Sequence[Keeper], grace: float | None) -> None:
        for keeper in keepers:
            keeper.stop(grace)
        # What a keeper raised is raised by `watch`; here the others must still be stopped.
        if keepers:
            await asyncio.wait({self._tasks[each] for each in keepers})

"""Replaces the processes one by one, so that there is always one that works.

Workers first: push servers, old or new, need them to answer. Beat and whatever else there is stop
and start. Push servers last: their clients have to connect again, and find new workers then.
"""

import asyncio
from collections.abc import Callable, Iterable

from queue_run.cli.production.formation import Place
from queue_run.cli.production.procfile import Role
from queue_run.cli.production.readiness import Readiness
from queue_run.cli.supervision.child import ChildProcess
from queue_run.cli.supervision.groups import ProcessGroups
from queue_run.cli.supervision.policy import describe_exit
from queue_run.cli.supervision.reporter import Program
from queue_run.cli.supervision.supervisor import Supervisor

ORDER = (Role.WORKER, Role.BEAT, Role.OTHER, Role.PUSH_SERVER)

#: Seconds that a new process has to come up.
READY_DEADLINE = 60.0


class RollingRestart:
    """Restarts all processes in turn.

    Args:
        places: each is updated when its process was replaced.
        grace: seconds that a process which did not come up has to end.
        deadline: seconds that a process has to come up.
        say: writes a line of our own.
    """

    def __init__(
        self,
        places: Iterable[Place],
        *,
        supervisor: Supervisor,
        groups: ProcessGroups,
        readiness: Readiness,
        grace: float,
        say: Callable[[str], None],
        deadline: float = READY_DEADLINE,
    ) -> None:
        self._places = sorted(places, key=lambda place: ORDER.index(place.role))
        self._supervisor = supervisor
        self._groups = groups
        self._readiness = readiness
        self._grace = grace
        self._say = say
        self._deadline = deadline

    async def run(self) -> bool:
        """Restart all; False if one did not come up, and those after it are as they were.

        Raises:
            OSError: if the system starts no process.
        """
        for place in self._places:
            renewed = await (self._replace(place) if place.overlaps else self._restart(place))
            if not renewed:
                self._say("the rolling restart has ended there: mend it, and send SIGHUP again")
                return False
        self._say("rolling restart: done")
        return True

    async def _replace(self, place: Place) -> bool:
        """The new process first; the old one stops when the new one is ready."""
        old, new = place.program, place.successor()
        self._say(f"rolling restart: {old.name}, the new one starts")
        ready = self._readiness.expect(new, place.role)
        child = await self._start(new)
        try:
            if problem := await self._problem(ready, child.ended):
                self._say(f"the new {old.name} {problem}: the old one stays")
                await child.stop(self._grace)
                return False
        except asyncio.CancelledError:
            # All is to stop: this one in its turn, like the others.
            self._supervisor.add(new, child=child)
            raise
        finally:
            self._readiness.forget(ready)
        self._supervisor.add(new, child=child)
        place.program = new
        self._say(f"rolling restart: {old.name}, the new one is ready, the old one stops")
        await self._supervisor.remove(old, grace=None)
        return True

    async def _restart(self, place: Place) -> bool:
        """The old process stops, then the new one starts: two would be in each other's way."""
        program = place.program
        self._say(f"rolling restart: {program.name} stops, then starts")
        ready = self._readiness.expect(program, place.role)
        try:
            # Only what follows the end of the old one counts, however long that takes.
            await self._supervisor.restart(program, grace=None)
            problem = await self._problem(ready)
        finally:
            self._readiness.forget(ready)
        if problem:
            self._say(f"{program.name} {problem}: it goes on being started")
        return not problem

    async def _start(self, program: Program) -> ChildProcess:
        return await ChildProcess.start(
            program,
            groups=self._groups,
            on_line=lambda line: self._readiness.output(program, line),
        )

    async def _problem(
        self, ready: asyncio.Event, ended: "asyncio.Task[int] | None" = None
    ) -> str | None:
        """Wait for one to be ready; why it is not, else None."""
        waiting = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait(
                {waiting, *([ended] if ended else [])},
                timeout=self._deadline,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            waiting.cancel()
        if ended and ended.done():
            return f"has ended ({describe_exit(ended.result())}, see above)"
        if not ready.is_set():
            return f"has not written within {self._deadline:g} s that it is ready (-l INFO?)"
        return None

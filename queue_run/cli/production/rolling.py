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
from queue_run.cli.supervision.policy import describe_exit
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program
from queue_run.cli.supervision.supervisor import Supervisor

ORDER = (Role.WORKER, Role.BEAT, Role.OTHER, Role.PUSH_SERVER)

#: Seconds that a new process has to come up.
READY_DEADLINE = 60.0


class RollingRestart:
    """Restarts all processes in turn, as the files are now.

    Args:
        places: those that there are; updated with each process that was replaced, came or went.
        wanted: those that there are to be.
        grace: seconds that a process which did not come up has to end.
        deadline: seconds that a process has to come up.
        say: writes a line of our own.
    """

    def __init__(
        self,
        places: list[Place],
        wanted: Iterable[Place],
        *,
        supervisor: Supervisor,
        groups: ProcessGroups,
        readiness: Readiness,
        grace: float,
        say: Callable[[str], None],
        deadline: float = READY_DEADLINE,
    ) -> None:
        self._places = places
        self._wanted = sorted(wanted, key=lambda place: ORDER.index(place.role))
        self._supervisor = supervisor
        self._groups = groups
        self._readiness = readiness
        self._grace = grace
        self._say = say
        self._deadline = deadline

    async def run(self) -> bool:
        """Restart all; False if one did not come up, and those after it are as they were."""
        for wanted in self._wanted:
            if not await self._renew(wanted):
                self._say("the rolling restart has ended there: mend it, and send SIGHUP again")
                return False
        await self._remove_others()
        self._say("rolling restart: done")
        return True

    async def _renew(self, wanted: Place) -> bool:
        name = wanted.program.name
        place = next((each for each in self._places if each.program.name == name), None)
        if place is None:
            return await self._add(wanted)
        if place.overlaps and wanted.overlaps:
            renewed = await self._replace(place, place.successor(wanted.program))
        else:
            renewed = await self._restart(place, wanted)
        if renewed:
            place.role, place.overlaps = wanted.role, wanted.overlaps
        return renewed

    async def _replace(self, place: Place, new: Program) -> bool:
        """The new process first; the old one stops when the new one is ready."""
        old = place.program
        self._say(f"rolling restart: {old.name}, the new one starts")
        if problem := await self._bring_up(new, place.role):
            self._say(f"the new {old.name} {problem}: the old one stays")
            return False
        place.program = new
        self._say(f"rolling restart: {old.name}, the new one is ready, the old one stops")
        await self._supervisor.remove(old, grace=None)
        return True

    async def _add(self, wanted: Place) -> bool:
        """Start a process that is new in the Procfile."""
        name = wanted.program.name
        self._say(f"rolling restart: {name} is new, it starts")
        if problem := await self._bring_up(wanted.program, wanted.role):
            self._say(f"the new {name} {problem}: it is stopped again")
            return False
        self._places.append(wanted)
        return True

    async def _bring_up(self, new: Program, role: Role) -> str | None:
        """Start a process beside those that there are; what is wrong with it, else None."""
        ready = self._readiness.expect(new, role)
        try:
            child = await self._start(new)
        except OSError as error:
            self._readiness.forget(ready)
            return f"cannot be started ({error.strerror or error}: {new.cwd})"
        try:
            if problem := await self._problem(ready, child.ended):
                await child.stop(self._grace)
                return problem
        except asyncio.CancelledError:
            # All is to stop: this one in its turn, like the others.
            self._supervisor.add(new, child=child)
            raise
        finally:
            self._readiness.forget(ready)
        self._supervisor.add(new, child=child)
        return None

    async def _restart(self, place: Place, wanted: Place) -> bool:
        """The old process stops, then the new one starts: two would be in each other's way."""
        old, new = place.program, wanted.program
        self._say(f"rolling restart: {old.name} stops, then starts")
        ready = self._readiness.expect(new, wanted.role)
        try:
            # Only what follows the end of the old one counts, however long that takes.
            place.program = new
            await self._supervisor.restart(old, new, grace=None)
            problem = await self._problem(ready)
        finally:
            self._readiness.forget(ready)
        if problem:
            self._say(f"{new.name} {problem}: it goes on being started")
        return not problem

    async def _remove_others(self) -> None:
        """Stop what the Procfile no longer has: push servers first, as at the end."""
        wanted = {each.program.name for each in self._wanted}
        gone = [each for each in self._places if each.program.name not in wanted]
        for place in sorted(gone, key=lambda each: each.program.stops):
            name = place.program.name
            self._say(f"rolling restart: {name} stops, the Procfile no longer has it")
            self._places.remove(place)
            await self._supervisor.remove(place.program, grace=None)

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

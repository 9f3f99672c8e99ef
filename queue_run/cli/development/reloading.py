"""Puts workers with new files in the place of those with old ones.

The new worker of messages loads beside the old one. Only when it is ready does the old one stop, so
that connections and messages always have somebody to answer; and the worker of jobs, of which there
is one at a time, starts anew with files that are known to load. If the new worker cannot load them,
or ends while it loads them, the old ones run on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from queue_run.cli.development.console import Console
from queue_run.cli.supervision.child import ChildProcess
from queue_run.cli.supervision.keeper import ProcessState
from queue_run.cli.supervision.policy import CANNOT_WORK, RestartPolicy, describe_exit
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program
from queue_run.cli.supervision.supervisor import Supervisor

T = TypeVar("T")

#: From SIGTERM to SIGKILL of a worker with old files: whoever saved one waits for the result.
OLD_GRACE = 5.0
#: Seconds between two looks whether the new worker is ready.
POLL = 0.05
#: Seconds after which it is said that a new worker still loads.
PATIENCE = 10.0


class Reloader:
    """Reloads the workers of a session each time that it is asked to.

    Args:
        sockets: gives the worker of messages, told the file that it makes when it is ready, and
            whether it runs beside another one.
        jobs: the worker of jobs.
        folder: for those files.
    """

    def __init__(
        self,
        sockets: Callable[[Path, bool], Program],
        jobs: Program,
        *,
        folder: Path,
        supervisor: Supervisor,
        groups: ProcessGroups,
        console: Console,
    ) -> None:
        self._make_sockets = sockets
        self._folder = folder
        self._supervisor = supervisor
        self._groups = groups
        self._console = console
        self._number = 0
        self._jobs = jobs
        #: Whether the worker of messages has the second of the two names.
        self._is_second = True
        self._sockets, _ = self._next_sockets()
        self._is_second = False
        self._asked = asyncio.Event()

    def start(self) -> None:
        """Start both workers."""
        self._supervisor.add(self._sockets)
        self._supervisor.add(self._jobs)

    def ask(self) -> None:
        """Ask for a reload, since files have changed."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever it is asked for.

        Raises:
            OSError: if the system starts no process.
        """
        while await self._asked.wait():
            self._asked.clear()
            loaded = await self._unless_asked_again(self._load())
            if loaded is not None:
                await self._replace(*loaded)

    async def _unless_asked_again(self, loading: Awaitable[T]) -> T | None:
        """Wait for the result of `loading`; cancel it and return None when files have changed."""
        task = asyncio.ensure_future(loading)
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    async def _load(self) -> tuple[Program, ChildProcess] | None:
        """Start a new worker of messages; None when it cannot work with the files as they are."""
        policy = RestartPolicy()
        while True:
            program, child, is_ready = await self._try_to_load()
            status = None if is_ready or not child.ended.done() else child.ended.result()
            if status == CANNOT_WORK:
                self._tell_failure()
                return None
            if status is None or not self._is_answered():
                # One that has ended while there is no other is started again like any program.
                return program, child
            delay = policy.delay_of_start()
            self._console.say(
                f"a new worker ended while it loaded the files ({describe_exit(status)}): those "
                f"before run on, it is tried again in {delay:g} s"
            )
            await asyncio.sleep(delay)

    async def _wait_until_loaded(self, child: ChildProcess, is_ready: Callable[[], bool]) -> None:
        """Return when the worker is ready, or has ended."""
        patience_ends = time.monotonic() + PATIENCE
        said = False
        while not is_ready() and not child.ended.done():
            await asyncio.wait({child.ended}, timeout=POLL)
            if not said and time.monotonic() > patience_ends:
                said = True
                self._console.say(
                    f"the new workers still load after {PATIENCE:g} s, is there an import that "
                    "hangs? Those before run on meanwhile"
                )

    def _is_answered(self) -> bool:
        """True if the former worker of messages still runs, so that messages are answered."""
        return self._supervisor.states().get(self._sockets.name) is ProcessState.RUNNING

    async def _try_to_load(self) -> tuple[Program, ChildProcess, bool]:
        """A new worker of messages that is ready, or has ended; whether it is ready."""
        program, ready = self._next_sockets()
        child = await ChildProcess.start(
            program,
            groups=self._groups,
            on_line=lambda line: self._console.output(program, line),
        )
        try:
            await self._wait_until_loaded(child, ready.exists)
        except asyncio.CancelledError:
            child.kill()
            await asyncio.wait({child.ended})
            raise
        return program, child, ready.exists()

    async def _replace(self, program: Program, child: ChildProcess) -> None:
        old, self._sockets = self._sockets, program
        self._is_second = not self._is_second
        self._supervisor.add(program, child=child)
        await self._supervisor.remove(old, grace=OLD_GRACE)
        await self._supervisor.remove(self._jobs, grace=OLD_GRACE)
        # Another object: by that supervisors know them.
        self._jobs = replace(self._jobs)
        self._supervisor.add(self._jobs)

    def _tell_failure(self) -> None:
        waits = self._supervisor.states().get(self._sockets.name) is ProcessState.AWAITING_CHANGE
        outcome = "they start" if waits else "those before run on, and new ones start"
        self._console.say(
            f"workers cannot load the files as they are, see above: {outcome} when a file changes"
        )

    def _next_sockets(self) -> tuple[Program, Path]:
        """The next worker of messages, and what it makes when it is ready.

        Its name differs from that of the one that runs, beside which it is to run.
        """
        self._number += 1
        ready = self._folder / f"sockets-{self._number}-ready"
        return self._make_sockets(ready, not self._is_second), ready

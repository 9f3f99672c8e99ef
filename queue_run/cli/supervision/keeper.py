"""Keeps one program running until it is told to stop."""

import asyncio
import contextlib
import enum
import time

from queue_run.cli.supervision.child import ChildProcess
from queue_run.cli.supervision.policy import RestartPolicy
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program, Reporter

#: From SIGTERM to SIGKILL when a program restarts: whoever saved a file waits for the result.
RESTART_GRACE = 5.0


class ProcessState(enum.Enum):
    RUNNING = "running"
    #: It failed and starts again in a moment.
    PAUSED = "paused"
    #: It cannot work as the files are now.
    AWAITING_CHANGE = "awaiting change"
    STOPPED = "stopped"


class Keeper:
    """The life of one program: start, restart after a failure or a change, stop.

    Args:
        child: its process, if it runs already.
    """

    def __init__(
        self,
        program: Program,
        *,
        groups: ProcessGroups,
        reporter: Reporter,
        child: ChildProcess | None = None,
    ) -> None:
        self.program = program
        self.state = ProcessState.RUNNING
        self._groups = groups
        self._reporter = reporter
        self._child = child
        self._policy = RestartPolicy(awaits_change=program.reloads)
        self._stopping = False
        self._grace: float | None = RESTART_GRACE
        #: Set when whatever goes on is to be cut short: by a change, or to stop.
        self._interrupt = asyncio.Event()

    async def run(self) -> None:
        """Keep the program running; returns when it was stopped."""
        while not self._stopping:
            self._interrupt.clear()
            self.state = ProcessState.RUNNING
            started = time.monotonic()
            try:
                child = self._child = self._child or await self._start()
            except OSError as error:
                await self._pause_before_start(error)
                continue
            await self._run_once(child)
            if not self._interrupt.is_set():
                await self._pause(child, ran_for=time.monotonic() - started)
        self.state = ProcessState.STOPPED

    def restart(self) -> None:
        """Something changed: start anew, at once."""
        self._policy.reset()
        self._interrupt.set()

    async def renew(self, program: Program, grace: float | None) -> None:
        """Run this program from now on; return when the process that runs now has ended.

        Args:
            grace: seconds until it is killed; None for never.
        """
        child = self._child
        self.program = program
        self._grace = grace
        self.restart()
        if child:
            await asyncio.wait({child.ended})

    def stop(self, grace: float | None) -> None:
        """Make `run` return, with the process ended after at most `grace` seconds.

        None is no limit.
        """
        self._stopping = True
        self._grace = grace
        self._interrupt.set()

    def kill(self) -> None:
        """Make `run` return at once."""
        self.stop(grace=0)
        if self._child:
            self._child.kill()

    async def _run_once(self, child: ChildProcess) -> None:
        interrupted = asyncio.create_task(self._interrupt.wait())
        await asyncio.wait({child.ended, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        interrupted.cancel()
        if not child.ended.done():
            await self._stop(child)
        self._child = None

    async def _stop(self, child: ChildProcess) -> None:
        grace = self._grace
        if not await child.stop(grace) and grace:
            self._reporter.killed(self.program, after=grace)

    async def _start(self) -> ChildProcess:
        return await ChildProcess.start(
            self.program,
            groups=self._groups,
            on_line=lambda line: self._reporter.output(self.program, line),
        )

    async def _pause(self, child: ChildProcess, *, ran_for: float) -> None:
        status = child.ended.result()
        delay = self._policy.delay(status, ran_for=ran_for)
        self.state = ProcessState.AWAITING_CHANGE if delay is None else ProcessState.PAUSED
        self._reporter.exited(self.program, status, delay=delay, output=child.last_lines)
        await self._wait(delay)

    async def _pause_before_start(self, error: OSError) -> None:
        """Wait after a failed start: its cause may pass, as when a folder is being replaced."""
        delay = self._policy.delay_of_start()
        self.state = ProcessState.PAUSED
        self._reporter.not_started(self.program, error, delay=delay)
        await self._wait(delay)

    async def _wait(self, delay: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._interrupt.wait(), delay)

"""One running process in a group of its own, its output line by line."""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable

from queue_run.cli.supervision.lines import LineSplitter
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program
from queue_run.cli.supervision.shell import run_by

#: Holds the program back until its group is known to the reaper: one line on standard input opens
#: it, and the end of the pipe (the supervisor was killed meanwhile) ends it. So there is no moment
#: at which a program runs that nobody would end.
GATE = 'read -r _ && exec "$@" </dev/null'

#: A process may leave another behind that moved to a group of its own and holds the output open.
OUTPUT_GRACE = 1.0
#: How often to look whether what a shell runs has ended; then the shell ends by itself, or not.
SHELL_POLL = 0.2
#: Lines remembered for the message about a failure.
LAST_LINES = 15


class ChildProcess:
    """A process that was started, until it and its group have ended.

    Attributes:
        ended: done when the process has ended and its output was read; its exit status.
        last_lines: the end of its output.
    """

    def __init__(
        self,
        program: Program,
        process: asyncio.subprocess.Process,
        output: "Output",
        groups: ProcessGroups,
    ) -> None:
        self._program = program
        self._process = process
        self._output = output
        self._groups = groups
        self.last_lines = output.last_lines
        self.ended = asyncio.create_task(self._end())

    @classmethod
    async def start(
        cls, program: Program, *, groups: ProcessGroups, on_line: Callable[[str], None]
    ) -> "ChildProcess":
        """Start a program.

        Raises:
            OSError: if it cannot be started: its folder is not there, the system starts no process,
                or the reaper is gone.
        """
        output = Output(on_line)
        with contextlib.ExitStack() as opened:
            writing = await output.open()
            opened.callback(os.close, writing)
            gate, opener = os.pipe()
            opened.callback(os.close, gate)
            opened.callback(os.close, opener)
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", GATE, program.name, *program.command),
                stdin=gate,
                stdout=writing,
                stderr=writing,
                cwd=program.cwd,
                env=program.environ,
                start_new_session=True,
            )
            groups.add(process.pid)
            with contextlib.suppress(BrokenPipeError):  # It was killed at once: `ended` says so.
                os.write(opener, b"\n")
        return cls(program, process, output, groups)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def stop(self, grace: float | None) -> bool:
        """Ask the process to end, and kill its group if it does not; False if that was needed.

        Args:
            grace: seconds until it is killed; None for never.
        """
        terminating = asyncio.create_task(self._terminate())
        done, _ = await asyncio.wait({self.ended}, timeout=grace)
        terminating.cancel()
        if not done:
            self.kill()
            await asyncio.wait({self.ended})
        return bool(done)

    def kill(self) -> None:
        """Kill the process and whatever it has started in its group."""
        # macOS answers EPERM where only zombies are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _terminate(self) -> None:
        # To the process alone: it knows how its own children are to be ended.
        if self._program.shell:
            await self._terminate_what_the_shell_runs()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    async def _terminate_what_the_shell_runs(self) -> None:
        """And wait for its end: when the shell ends, what is left of its group is killed."""
        running = [pid for pid in run_by(self.pid, self._program.command) if pid != self.pid]
        for pid in running:
            send(pid, signal.SIGTERM)
        while running:
            await asyncio.sleep(SHELL_POLL)
            running = [pid for pid in running if send(pid, 0)]

    async def _end(self) -> int:
        status = await self._process.wait()
        self.kill()  # What it left behind in its group goes with it.
        await self._output.finish(OUTPUT_GRACE)
        self._groups.remove(self.pid)
        return status


def send(pid: int, number: int) -> bool:
    """Signal a process; False if it is gone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class Output(asyncio.Protocol):
    """Reads a pipe and reports each line."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._splitter = LineSplitter()
        self._closed = asyncio.Event()
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)

    async def open(self) -> int:
        """Start to read; the file descriptor to write to."""
        reading, writing = os.pipe()
        pipe = os.fdopen(reading, "rb", buffering=0)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: self, pipe)
        return writing

    def data_received(self, data: bytes) -> None:
        self._report(self._splitter.feed(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._report(self._splitter.flush())
        self._closed.set()

    async def finish(self, grace: float) -> None:
        """Wait for the end of the output, though not for ever."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), grace)
        self._transport.close()
        await self._closed.wait()

    def _report(self, lines: list[str]) -> None:
        for line in lines:
            self.last_lines.append(line)
            self._on_line(line)

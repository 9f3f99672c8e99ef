"""The programs of a supervisor, and the reporter to which it tells what happens to them."""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class StopStage(enum.IntEnum):
    """The stage at which a program is stopped.

    Programs of a stage are stopped when all programs of the earlier stages, which need them, have
    ended.
    """

    FIRST = 1
    SECOND = 2
    LAST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command that is to be kept running."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    #: The folder that it runs in. A name with a link in it is followed at each start.
    cwd: Path
    #: It runs the application's code: it restarts when a file changes.
    reloads: bool = False
    stops: StopStage = StopStage.SECOND
    #: Its output is of interest only when it fails.
    quiet: bool = False
    #: The command is a shell's: a signal to end is for what the shell runs.
    shell: bool = False


class Reporter(Protocol):
    """A receiver of events. Its methods are called on the event loop and must not block."""

    def output(self, program: Program, line: str) -> None:
        """Called when a program has written a line."""

    def exited(
        self, program: Program, status: int, *, delay: float | None, output: Collection[str]
    ) -> None:
        """Called when a program has ended without being asked to.

        Args:
            status: exit code, negative for a signal.
            delay: seconds until the program starts again; None: it starts after the next change
                only.
            output: the program's last lines.
        """

    def not_started(self, program: Program, error: OSError, *, delay: float) -> None:
        """Called when a program could not be started; the next attempt is `delay` seconds later."""

    def killed(self, program: Program, *, after: float) -> None:
        """Called when a program was killed, since it did not end within `after` seconds."""

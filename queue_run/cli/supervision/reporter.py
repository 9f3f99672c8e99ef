"""What is supervised, and whom its supervisor tells."""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class StopStage(enum.IntEnum):
    """When a program is stopped: after all of an earlier stage have ended, who need it for that."""

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
    """Hears what happens. Its methods are called on the event loop and must not block."""

    def output(self, program: Program, line: str) -> None:
        """A program wrote a line."""

    def exited(
        self, program: Program, status: int, *, delay: float | None, output: Collection[str]
    ) -> None:
        """A program ended that nobody had asked to.

        Args:
            status: exit code, negative for a signal.
            delay: seconds until it starts again; None for not before a change.
            output: its last lines.
        """

    def not_started(self, program: Program, error: OSError, *, delay: float) -> None:
        """A program could not be started; the next attempt is so many seconds later."""

    def killed(self, program: Program, *, after: float) -> None:
        """A program did not end within the seconds it had."""

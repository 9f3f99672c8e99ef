"""The formation: the processes of a Procfile that run, and how many of each."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from queue_run.cli.command_line.errors import CommandError, check_not_hidden
from queue_run.cli.production.folder import Folder
from queue_run.cli.production.procfile import ProcfileLine, ProcfileSource, Role
from queue_run.cli.supervision.reporter import Program, StopStage
from queue_run.settings import PROCESS_VARIABLE, Settings, variable_name

REUSE_PORT = variable_name("reuse_port")

#: Added to a process's number while the one before it still runs.
SUCCESSOR = "b"


@dataclass(slots=True, kw_only=True)
class Place:
    """A place that one process holds, and its successors after it.

    Attributes:
        program: what holds it now, or is to.
        overlaps: a successor may run beside it.
    """

    program: Program
    role: Role
    overlaps: bool

    def successor(self, program: Program | None = None) -> Program:
        """A program (the same, if none is given) with another node name than the one that holds
        the place, for a process that runs beside it."""
        number = self.program.environ[PROCESS_VARIABLE]
        other = number.removesuffix(SUCCESSOR) if number.endswith(SUCCESSOR) else number + SUCCESSOR
        program = program or self.program
        return replace(program, environ={**program.environ, PROCESS_VARIABLE: other})


@dataclass(frozen=True, slots=True, kw_only=True)
class Formation:
    """The processes that are to run, read anew from the files each time.

    Attributes:
        processes: the counts, as in `read_counts`.
        environ: of all processes, but for what each has of its own.
    """

    folder: Folder
    procfile: ProcfileSource
    processes: str
    settings: Settings
    environ: Mapping[str, str]

    def places(self) -> list[Place]:
        """A place for each process that is to run, in the order of the Procfile.

        Raises:
            CommandError: if nothing can be started as things are.
        """
        place = self.folder.now()
        check_not_hidden(place, place / Path(self.settings.app_dir).expanduser())
        entries = self.procfile.read()
        return places(
            entries,
            read_counts(self.processes, entries),
            settings=self.settings,
            environ=self.environ,
            cwd=self.folder.name,
        )


def read_counts(text: str, entries: Sequence[ProcfileLine]) -> dict[str, int]:
    """Read how many processes each line has: one, unless `text` says otherwise ("web=2,worker=4").

    Raises:
        CommandError: naming the part that is wrong.
    """
    counts = {entry.name: 1 for entry in entries}
    roles = {entry.name: entry.role for entry in entries}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (each.strip() for each in part.partition("="))
        if not (number.isascii() and number.isdigit()):
            raise CommandError(f"--processes {part!r}: expected NAME=NUMBER, for example web=2")
        if name not in counts:
            raise CommandError(
                f"--processes {part!r}: the Procfile has no line {name!r}, only {', '.join(counts)}"
            )
        if roles[name] is Role.BEAT and int(number) > 1:
            raise CommandError(
                f"--processes {part!r}: two of beat would push every scheduled job twice"
            )
        counts[name] = int(number)
    if not any(counts.values()):
        raise CommandError("--processes leaves no process to run")
    return counts


def places(
    entries: Sequence[ProcfileLine],
    counts: Mapping[str, int],
    *,
    settings: Settings,
    environ: Mapping[str, str],
    cwd: Path,
) -> list[Place]:
    """A place for each process that is to run, in the order of the Procfile."""
    return [
        place
        for entry in entries
        for place in _places_of(entry, counts[entry.name], settings, environ, cwd)
    ]


def for_production(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the processes, but for what each has of its own."""
    child = {**environ}
    # Their output is a pipe, which Python would fill before it writes a line.
    child.setdefault("PYTHONUNBUFFERED", "1")
    # A service manager names this command by its path: `python` and `celery` are beside it.
    beside = str(_commands_folder())
    path = environ.get("PATH", os.defpath)
    if beside not in path.split(os.pathsep):
        child["PATH"] = os.pathsep.join((beside, path))
    return child


def _commands_folder() -> Path:
    """The folder of this command, by the name that it was started by."""
    interpreter, command = Path(sys.executable).parent, Path(sys.argv[0]).parent
    with contextlib.suppress(OSError):
        # An installed command begins with the path of its interpreter, links resolved.
        if command.is_absolute() and command.samefile(interpreter):
            return command
    return interpreter


def _places_of(
    entry: ProcfileLine, count: int, settings: Settings, environ: Mapping[str, str], cwd: Path
) -> Iterator[Place]:
    serves = entry.role is Role.PUSH_SERVER
    shares_port = serves and (count > 1 or settings.reuse_port)
    for number in range(1, count + 1):
        own = {PROCESS_VARIABLE: str(number)} | ({REUSE_PORT: "1"} if shares_port else {})
        yield Place(
            program=Program(
                name=f"{entry.name}.{number}",
                command=("/bin/sh", "-c", entry.command),
                environ={**environ, **own},
                cwd=cwd,
                stops=StopStage.FIRST if serves else StopStage.SECOND,
                shell=True,
            ),
            role=entry.role,
            overlaps=shares_port or entry.role is Role.WORKER,
        )

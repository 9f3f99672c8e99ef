"""Reads a Procfile: one line `name: command` for each kind of process. No process in here."""

import enum
import os
import re
from dataclasses import dataclass
from pathlib import Path

from queue_run.cli.command_line.errors import CommandError

LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+)\s*:\s*(?P<command>\S.*)")

PUSH_SERVER = re.compile(r"push_server|queue-run push-server")
BEAT = re.compile(r" beat(?!\S)")
#: Not the name of Celery's application, which is `worker` as well.
WORKER = re.compile(r"(?<! -A)(?<! --app) worker(?!\S)")


class Role(enum.Enum):
    """The kind of a process, as far as stopping and restarting depend on it."""

    PUSH_SERVER = "push server"
    WORKER = "worker"
    BEAT = "beat"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcfileLine:
    """One line of a Procfile."""

    name: str
    command: str

    @property
    def role(self) -> Role:
        if PUSH_SERVER.search(self.command):
            return Role.PUSH_SERVER
        if BEAT.search(self.command):
            return Role.BEAT
        return Role.WORKER if WORKER.search(self.command) else Role.OTHER


#: What runs where an application has no Procfile: the same as this project's own.
DEFAULT = Path(__file__).with_name("Procfile")
CUSTOMARY = "Procfile"


class ProcfileSource:
    """The source of the lines: a file that was named, the folder's Procfile, or the default.

    Args:
        folder: the processes' folder; a relative path begins there.
        named: what the caller named; None for the folder's own, if there is one.
    """

    def __init__(self, folder: Path, named: Path | None) -> None:
        self._path = folder / (named or CUSTOMARY)
        # Also where there is none now: who has had a file once has lost it, when it is gone.
        self._required = named is not None or os.path.lexists(self._path)
        # Read now: a deployment may remove the files that this process was started from.
        self._default = read(DEFAULT)

    def read(self) -> list[ProcfileLine]:
        """The lines as they are now.

        Raises:
            CommandError: if the file cannot be read, or is no Procfile.
        """
        if not self._required and not os.path.lexists(self._path):
            return self._default
        self._required = True
        return read(self._path)

    def described(self) -> str:
        """The source of the lines, in words."""
        if self._required:
            return str(self._path)
        names = ", ".join(entry.name for entry in self._default)
        return f"there is no {self._path}: queue-run's own is used, with {names}"


def read(path: Path) -> list[ProcfileLine]:
    """The lines of a file.

    Raises:
        CommandError: if it cannot be read, or is no Procfile.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(
            f"{path} cannot be read ({reason}): start in the folder that has a Procfile, "
            "or name one: 'queue-run start PROCFILE'"
        ) from None
    return parse(text, source=str(path))


def parse(text: str, *, source: str = "Procfile") -> list[ProcfileLine]:
    """Read the lines of a Procfile's text; empty lines and comments are left out.

    Raises:
        CommandError: naming the line that is wrong.
    """
    entries: dict[str, ProcfileLine] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise CommandError(f"{source}, line {number}: expected 'name: command', got {line!r}")
        if match["name"] in entries:
            raise CommandError(f"{source}, line {number}: the name {match['name']!r} is taken")
        entries[match["name"]] = ProcfileLine(**match.groupdict())
    if not entries:
        raise CommandError(f"{source} has no line 'name: command'")
    return list(entries.values())

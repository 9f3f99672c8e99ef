"""The folder in which the processes run, by its name and not by what the name stands for now.

A deployment puts each release into a folder of its own and turns a link to it: `current` is
`releases/1`, then `releases/2`. The kernel tells a process only where it is, `releases/1`, and
that folder is removed some day. So the name under which the folder was entered is found out at the
start, and every process that starts later follows it anew.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from queue_run.cli.command_line.errors import CommandError

#: Variables that list folders in which programs and modules are looked for.
SEARCHED = ("PATH", "PYTHONPATH", "VIRTUAL_ENV")
#: How far above the folder, and above each folder there, a link to it is looked for.
LEVELS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder by its name.

    Attributes:
        name: absolute, links and all.
        start: where it was at the start, without links.
    """

    name: Path
    start: Path

    def now(self) -> Path:
        """Find where the folder is now, without links.

        Raises:
            CommandError: if it is not there.
        """
        try:
            # Not `Path.resolve`: a circle of links is no OSError to it.
            place = Path(os.path.realpath(self.name, strict=True))
        except OSError as error:
            raise CommandError(f"the folder {self.name} is not there ({error.strerror})") from None
        if not place.is_dir():
            raise CommandError(f"{self.name} is no folder")
        return place

    def described(self) -> str:
        """The folder's name, and the place where it is now if that is another one."""
        place = self.now()
        return str(self.name) if place == self.name else f"{self.name} (now {place})"

    def by_name(self, path: str) -> str:
        """A path into the folder as it was at the start, by the folder's name; others unchanged."""
        if self.start != self.name and Path(path).is_relative_to(self.start):
            return str(self.name / Path(path).relative_to(self.start))
        return path

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment, in which programs are looked for in what the name stands for then."""
        return {**environ, "PWD": str(self.name)} | {
            variable: os.pathsep.join(map(self.by_name, environ[variable].split(os.pathsep)))
            for variable in SEARCHED
            if variable in environ
        }


def working_folder(environ: Mapping[str, str], hints: Iterable[str | Path]) -> Folder:
    """The working directory by the name under which it was entered.

    Shells keep that name in PWD. Service managers do not: then it is the beginning of one of the
    `hints`, paths that were given to this process; or the only link nearby that leads to it.

    Raises:
        CommandError: if it has been removed.
    """
    try:
        here = Path.cwd()
    except OSError as error:
        raise CommandError(f"the working directory is not there ({error.strerror})") from None
    if _is_name(environ.get("PWD", ""), of=here):
        return Folder(name=Path(environ["PWD"]), start=here)
    for hint in hints:
        for parent in (Path(hint), *Path(hint).parents):
            if _is_name(parent, of=here) and parent != here:
                return Folder(name=parent, start=here)
    return Folder(name=_by_link(here) or here, start=here)


def _is_name(path: str | Path, *, of: Path) -> bool:
    # What `..` leads to depends on where links before it lead.
    if not os.path.isabs(path) or ".." in Path(path).parts:
        return False
    with contextlib.suppress(OSError):
        return Path(path).samefile(of)
    return False


def _by_link(here: Path) -> Path | None:
    """The name of a folder by way of the only link to it, or to the nearest folder above it."""
    for target in (here, *here.parents[:LEVELS]):
        links = {link for above in target.parents[:LEVELS] for link in _links(above, to=target)}
        if links:
            return links.pop() / here.relative_to(target) if len(links) == 1 else None
    return None


def _links(folder: Path, *, to: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink() and _is_name(entry.path, of=to):
                yield Path(entry.path)

"""Which processes run on this machine, told by /proc or, without it, by `ps`."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Running(NamedTuple):
    """A process that is more than a zombie."""

    pid: int
    parent: int
    command: str


def processes() -> list[Running]:
    return list(_from_proc() if Path("/proc/self/stat").exists() else _from_ps())


def runs(pid: int) -> bool:
    return any(each.pid == pid for each in processes())


def descendants(pid: int) -> list[Running]:
    """The processes that one has started, and those that they have started."""
    table, found = processes(), {pid}
    while more := {each.pid for each in table if each.parent in found} - found:
        found |= more
    return [each for each in table if each.pid in found - {pid}]


def _from_proc() -> Iterator[Running]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name may hold spaces and parentheses; state and parent follow the last one.
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue  # It has just ended.
        if state not in "ZX":
            yield Running(int(folder.name), int(parent), command)


def _from_ps() -> Iterator[Running]:
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,command="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in listing.splitlines():
        pid, parent, state, command = line.split(maxsplit=3)
        if not state.startswith("Z"):
            yield Running(int(pid), int(parent), command)

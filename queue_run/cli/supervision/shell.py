"""Finds what a shell runs: most shells stay in between, and hand no signal on."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

PROC = Path("/proc")


def run_by(shell: int, command: Sequence[str]) -> list[int]:
    """The processes that are to get the signals of a shell that was started with this command.

    Those that it has started; itself if there is none, or if it has become its command (`exec`).
    """
    if _arguments(shell) != " ".join(command):
        return [shell]
    return _children(shell) or [shell]


def _arguments(pid: int) -> str:
    if (PROC / "self").exists():
        try:
            return (PROC / str(pid) / "cmdline").read_bytes().decode().replace("\0", " ")[:-1]
        except OSError:
            return ""  # It has ended.
    return _ps("-ww", "-o", "args=", "-p", str(pid)).strip()


def _children(pid: int) -> list[int]:
    if (PROC / "self").exists():
        pairs = [_with_parent(folder) for folder in PROC.glob("[0-9]*")]
    else:
        lines = _ps("-A", "-o", "pid=,ppid=").splitlines()
        pairs = [(int(child), int(parent)) for child, parent in map(str.split, lines)]
    return [child for child, parent in pairs if parent == pid]


def _with_parent(folder: Path) -> tuple[int, int]:
    try:
        # The name may hold spaces and parentheses; state and parent follow the last one.
        parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
    except (OSError, IndexError):
        parent = "-1"  # It has just ended.
    return int(folder.name), int(parent)


def _ps(*options: str) -> str:
    return subprocess.run(["ps", *options], capture_output=True, text=True, check=False).stdout

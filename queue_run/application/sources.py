"""Finding the files of an application in its folders, and what is wrong with some of them.

The loader imports them, and `queue-run dev` watches them: both ask here.

Everything hidden is passed over: names that begin with a dot, as editors, notebooks, macOS and
mounts of Kubernetes leave them. Links to files and folders are followed, under their own names.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

#: The folders that hold an application's files.
FOLDERS = ("sockets", "queues")
#: What Python itself leaves behind.
_CACHE = "__pycache__"


@dataclass(slots=True)
class Sources:
    """The files that were found in one of the application's folders, and their problems."""

    #: Below the application's folder: `sockets/chat.py`. A folder's own file comes first:
    #: `sockets/chat.py` before those in `sockets/chat/`.
    files: list[Path] = field(default_factory=list)
    #: One sentence each, beginning with the name of what cannot be used.
    problems: list[str] = field(default_factory=list)
    #: Where links lead: files and folders, by their real paths.
    targets: list[Path] = field(default_factory=list)


def find(app: Path, kind: str) -> Sources:
    """The files of the application in `app` that are in its folder `kind`."""
    found = Sources()
    root = app / kind
    if root.is_symlink():
        found.targets.append(Path(os.path.realpath(root)))
        if not root.exists():
            found.problems.append(_broken(kind, root))
    if root.is_dir():
        _walk(app, Path(kind), {os.path.realpath(root)}, found)
    found.files.sort(key=lambda each: (len(each.parts), each))
    return found


def is_hidden(name: str) -> bool:
    """True if a file or folder of this name does not belong to the application."""
    return name.startswith(".") or name == _CACHE


def _walk(app: Path, folder: Path, above: set[str], found: Sources) -> None:
    """
    Args:
        above: real paths of the folder and all that it is in.
    """
    try:
        names = sorted(os.listdir(app / folder))
    except OSError as error:
        found.problems.append(f"{folder}: the folder cannot be read ({error.strerror})")
        return
    for name in names:
        if not is_hidden(name):
            _look_at(app, folder / name, above, found)


def _look_at(app: Path, inside: Path, above: set[str], found: Sources) -> None:
    path = app / inside
    is_python = inside.suffix == ".py"
    if path.is_symlink() and (is_python or os.path.isdir(path) or not inside.suffix):
        found.targets.append(Path(os.path.realpath(path)))
        if not os.path.exists(path):
            found.problems.append(_broken(str(inside), path))
            return
    if os.path.isdir(path):
        real = os.path.realpath(path)
        if real in above:
            found.problems.append(f"{inside}: a link to a folder that it is in itself ({real})")
        else:
            _walk(app, inside, {*above, real}, found)
    elif is_python:
        problem = _problem(inside, path)
        if problem:
            found.problems.append(f"{_printable(inside)}: {problem}")
        else:
            found.files.append(inside)


def _problem(inside: Path, path: Path) -> str | None:
    """Why a file cannot be imported, or answer no path."""
    names = (*inside.parts[:-1], inside.stem)
    if any("." in name for name in names):
        return "it cannot be imported: a dot in the name of a file or folder; use '_' or '-'"
    # Names of queues have a check of their own, which is narrower.
    if inside.parts[0] == "sockets" and not all(name.isprintable() for name in names):
        return "its name has characters that cannot be shown: rename it"
    if not path.is_file():
        return "it is no regular file"
    if not os.access(path, os.R_OK):
        return "it cannot be read (Permission denied)"
    return None


def _broken(name: str, path: Path) -> str:
    return f"{name}: a link to {os.readlink(path)}, which is not there"


def _printable(inside: Path) -> str:
    name = str(inside)
    return name if name.isprintable() else ascii(name)

"""Sees the application's Python files change."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from watchfiles import Change, awatch

from queue_run.application.sources import FOLDERS, find, is_hidden

#: Folders beside `sockets/` and `queues/` that hold no code of the running application. Hidden ones
#: are ignored too.
IGNORED = frozenset({"node_modules", "site-packages", "tests"})
#: Files named in the line that says what changed.
NAMED = 3


class SourceFilter:
    """Tells a change that matters from one that does not.

    Inside `sockets/` and `queues/` it goes by what would be loaded; beside them every Python file
    may be imported by those.
    """

    def __init__(self, app: Path) -> None:
        self._app = app
        #: Where links in the application's folders lead.
        self.targets: list[Path] = []
        self._state: dict[Path, object] = {}
        self.look()

    def look(self) -> bool:
        """Find the application's files; whether they are others, or have changed."""
        found = [find(self._app, kind) for kind in FOLDERS]
        self.targets = [target for each in found for target in each.targets]
        before, self._state = (
            self._state,
            {file: _state(self._app / file) for each in found for file in each.files},
        )
        return self._state != before

    def __call__(self, change: Change, path: str) -> bool:
        changed = Path(path)
        for target in self.targets:
            if changed.is_relative_to(target):
                return self._matters(change, changed, changed.relative_to(target))
        try:
            inside = changed.relative_to(self._app)
        except ValueError:
            return False
        if inside.parts and inside.parts[0] in FOLDERS:
            # A link may lead to something hidden: a mount of Kubernetes puts another in its place.
            hidden = any(map(is_hidden, inside.parts))
            return self.look() if hidden else self._matters(change, changed, inside)
        if any(part in IGNORED for part in inside.parts):
            return False
        return self._matters(change, changed, inside)

    def _matters(self, change: Change, path: Path, inside: Path) -> bool:
        if any(map(is_hidden, inside.parts)):
            return False
        if path.suffix == ".py":
            return True
        return change is not Change.modified and self._is_folder_of_code(change, path)

    def _is_folder_of_code(self, change: Change, path: Path) -> bool:
        # A folder that is moved, or filled faster than it can be watched, is the only one reported.
        if change is Change.added:
            return path.is_dir() and next(path.rglob("*.py"), None) is not None
        return not path.suffix and any(path.is_relative_to(self._app / kind) for kind in FOLDERS)


def _state(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return os.path.realpath(path), status.st_ino, status.st_mtime_ns, status.st_size


async def changes(app: Path) -> AsyncIterator[list[str]]:
    """The names of the files that changed, each time some did.

    Raises:
        OSError: if the system cannot watch so many folders.
    """
    matters = SourceFilter(app)
    while True:
        roots = {app, *(target for target in matters.targets if target.exists())}
        async for found in awatch(
            *sorted(roots), watch_filter=matters, ignore_permission_denied=True
        ):
            yield sorted({_name(app, Path(path)) for _, path in found})
            before = matters.targets
            matters.look()
            if before or matters.targets:
                # Links lead elsewhere, or what they lead to was put in place of another file.
                break
        else:
            return


def _name(app: Path, path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(app))
    return str(path)


def describe(names: Iterable[str]) -> str:
    """The first few names."""
    first = list(names)
    more = len(first) - NAMED
    return ", ".join(first[:NAMED]) + (f" and {more} more" if more > 0 else "")

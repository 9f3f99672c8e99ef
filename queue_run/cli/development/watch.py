"""Sees the application's Python files change."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from watchfiles import Change, awatch

APPLICATION_FOLDERS = ("sockets", "queues")
#: Folders that hold no code of the running application. Hidden ones are ignored too.
IGNORED = frozenset({"__pycache__", "node_modules", "site-packages", "tests"})
#: Files named in the line that says what changed.
NAMED = 3


class SourceFilter:
    """Tells a change that matters from one that does not."""

    def __init__(self, app: Path) -> None:
        self._app = app

    def __call__(self, change: Change, path: str) -> bool:
        try:
            inside = Path(path).relative_to(self._app)
        except ValueError:
            return False
        if any(part in IGNORED or part.startswith(".") for part in inside.parts):
            return False
        if inside.suffix == ".py":
            return True
        return change is not Change.modified and self._is_folder_of_code(change, inside)

    def _is_folder_of_code(self, change: Change, inside: Path) -> bool:
        # A folder that is moved, or filled faster than it can be watched, is the only one reported.
        if change is Change.added:
            folder = self._app / inside
            return folder.is_dir() and next(folder.rglob("*.py"), None) is not None
        return not inside.suffix and inside.parts[0] in APPLICATION_FOLDERS


async def changes(app: Path) -> AsyncIterator[list[str]]:
    """The names of the files that changed, each time some did.

    Raises:
        OSError: if the system cannot watch so many folders.
    """
    async for found in awatch(app, watch_filter=SourceFilter(app), ignore_permission_denied=True):
        yield sorted({str(Path(path).relative_to(app)) for _, path in found})


def describe(names: Iterable[str]) -> str:
    """The first few names."""
    first = list(names)
    more = len(first) - NAMED
    return ", ".join(first[:NAMED]) + (f" and {more} more" if more > 0 else "")

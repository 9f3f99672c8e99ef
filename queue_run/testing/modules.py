"""Importing an application for one test, and removing it again."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from worker.application import loader
from worker.application.routes import Routes


@contextlib.contextmanager
def loaded(folder: Path) -> Iterator[Routes]:
    """Import the application in `folder` anew, for the block.

    After the block the modules `sockets` and `queues`, the modules in them, and the import path are
    as before. Other modules that the application has imported stay.

    Raises:
        ApplicationError: with every file that cannot be used.
    """
    before = _take_out()
    on_path = str(folder) in sys.path
    try:
        yield loader.load(folder)
    finally:
        _take_out()
        sys.modules.update(before)
        if not on_path:
            with contextlib.suppress(ValueError):
                sys.path.remove(str(folder))


def _take_out() -> dict[str, ModuleType]:
    names = [each for each in sys.modules if each.partition(".")[0] in _PACKAGES]
    return {name: sys.modules.pop(name) for name in names}


_PACKAGES = (loader.SOCKETS, loader.QUEUES)

"""Applications written for one test, and workers that need no broker."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import write_files
from worker.application import loader
from worker.application.routes import Routes
from worker.calls.threads import HandlerThreads

#: Writes an application and loads it.
Load = Callable[..., Routes]


@pytest.fixture
def clean_imports(tmp_path: Path) -> Iterator[None]:
    """What a test imports from its own folder is gone afterwards."""
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        ours = name.partition(".")[0] in (loader.SOCKETS, loader.QUEUES)
        if ours or (file and Path(file).is_relative_to(tmp_path)):
            del sys.modules[name]
    sys.modules.update({name: each for name, each in modules.items() if name not in sys.modules})


@pytest.fixture
def load(tmp_path: Path, clean_imports: None) -> Load:
    def load(files: dict[str, str], *, folder: str = "app") -> Routes:
        return loader.load(write_files(tmp_path / folder, files))

    return load


@pytest.fixture
def threads() -> Iterator[HandlerThreads]:
    threads = HandlerThreads(4)
    yield threads
    threads.shutdown()

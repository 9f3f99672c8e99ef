"""Fixtures for pytest, which finds them by itself where queue-run is installed.

The ini option `queue_run_app` names the application's folder, relative to pytest's root. Without it
the application is the one in the working directory, else the one in the root.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from queue_run.testing import Application, Client

#: What the fixture `connect` is; it takes what `Application.connected` takes.
Connect: TypeAlias = Callable[..., Client]

_OPTION = "queue_run_app"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(_OPTION, "folder that holds sockets/ and queues/ of the queue-run application")


@pytest.fixture
def queue_run_app(pytestconfig: pytest.Config) -> Iterator[Application]:
    """The application under test, open during the test."""
    with Application(_folder(pytestconfig)) as app:
        yield app


@pytest.fixture
def connect(queue_run_app: Application) -> Iterator[Connect]:
    """Connects clients that stay until the end of the test: `ann = connect("ann")`."""
    with contextlib.ExitStack() as clients:
        yield lambda *args, **kwargs: clients.enter_context(
            queue_run_app.connected(*args, **kwargs)
        )


def _folder(config: pytest.Config) -> Path:
    configured = config.getini(_OPTION)
    if configured:
        return config.rootpath / str(configured)
    here = Path.cwd()
    holds_application = any((here / name).is_dir() for name in ("sockets", "queues"))
    return here if holds_application else config.rootpath

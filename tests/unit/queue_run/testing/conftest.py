"""Applications that are open during a test."""

from collections.abc import Iterator

import pytest

from queue_run.testing import Application
from tests.conftest import WriteApp
from tests.unit.queue_run.testing.applications import ECHO, ENDS, JOBS, LANES, METADATA


@pytest.fixture
def echo(write_app: WriteApp) -> Iterator[Application]:
    with Application(write_app(ECHO)) as app:
        yield app


@pytest.fixture
def jobs(write_app: WriteApp) -> Iterator[Application]:
    with Application(write_app(JOBS)) as app:
        yield app


@pytest.fixture
def metadata(write_app: WriteApp) -> Iterator[Application]:
    with Application(write_app(METADATA)) as app:
        yield app


@pytest.fixture
def groups(write_app: WriteApp) -> Iterator[Application]:
    with Application(write_app(LANES)) as app:
        yield app


@pytest.fixture
def ends(write_app: WriteApp) -> Iterator[Application]:
    with Application(write_app(ENDS)) as app:
        yield app

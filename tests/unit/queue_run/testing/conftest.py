"""Applications that are open during a test."""

from collections.abc import Iterator

import pytest

from queue_run.testing import Application
from tests.conftest import WriteApp
from tests.unit.queue_run.testing.applications import ECHO, JOBS


@pytest.fixture
def echo(write_app: WriteApp) -> Iterator[Application]:
    with Application(write_app(ECHO)) as app:
        yield app


@pytest.fixture
def jobs(write_app: WriteApp) -> Iterator[Application]:
    with Application(write_app(JOBS)) as app:
        yield app

"""What tests of single modules share."""

from collections.abc import Iterator

import pytest

from queue_run.process import runtime
from queue_run.process.runtime import Runtime
from queue_run.settings import Settings
from tests.contract.conftest import fake_redis_url, redis_url  # noqa: F401
from tests.unit.recorders import RecordingPublisher


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not used queue_run yet; what it makes of it is gone after the test."""
    monkeypatch.setattr(runtime, "_current", None)


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture
def process(no_runtime: None, publisher: RecordingPublisher) -> Iterator[Runtime]:
    """This process's runtime, whose channel is a list and whose Redis does not answer."""
    here = runtime.configure(
        # Port 1 is nobody's: a test that reaches for Redis is refused at once.
        Settings(redis_url="redis://127.0.0.1:1/0", namespace="test", max_message_bytes=2048)
    )
    here.__dict__["publisher"] = publisher
    yield here
    here.close()

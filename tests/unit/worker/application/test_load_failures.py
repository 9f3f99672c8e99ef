import pytest

from queue_run.contracts.keys import Keys
from queue_run.errors import ApplicationError, SettingsError
from queue_run.settings import Settings
from tests.processes import RedisServer, free_port
from worker.application.load_failures import forget, tell

FAILURE = ApplicationError(["sockets/index.py: line 1: invalid syntax"])


def said(redis_server: RedisServer, namespace: str) -> str | None:
    with redis_server.client() as client:
        found = client.get(Keys(namespace).load_failure)
    assert found is None or isinstance(found, str)
    return found


def test_what_is_wrong_is_told_until_it_is_mended(
    redis_server: RedisServer, namespace: str
) -> None:
    settings = Settings(redis_url=redis_server.url, namespace=namespace, expose_errors=True)
    tell(settings, FAILURE)
    assert "sockets/index.py: line 1: invalid syntax" in (said(redis_server, namespace) or "")
    forget(settings)
    assert said(redis_server, namespace) is None


@pytest.mark.parametrize(
    ("exposed", "error"), [(False, FAILURE), (True, SettingsError(["REDIS_URL: wrong"]))]
)
def test_nothing_is_told_that_clients_must_not_see(
    redis_server: RedisServer, namespace: str, exposed: bool, error: Exception
) -> None:
    settings = Settings(redis_url=redis_server.url, namespace=namespace, expose_errors=exposed)
    tell(settings, error)
    assert said(redis_server, namespace) is None


def test_without_redis_nothing_fails() -> None:
    settings = Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0", expose_errors=True)
    tell(settings, FAILURE)
    forget(settings)

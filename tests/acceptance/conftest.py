"""One stack for the tests that leave it as it was: two push servers, two worker processes."""

from collections.abc import Iterator

import pytest

from tests.conftest import new_namespace
from tests.processes import ROOT, RedisServer, Stack

MESSAGES_APP = ROOT / "tests" / "apps" / "messages"


@pytest.fixture(scope="package")
def stack(redis_server: RedisServer) -> Iterator[Stack]:
    """Requests on two solo workers; jobs on a prefork and a threads worker."""
    stack = Stack(redis_server.url, MESSAGES_APP, new_namespace())
    stack.push_server()
    stack.push_server()
    stack.worker("-P", "solo", queues="sockets")
    stack.worker("-P", "solo", queues="sockets")
    stack.worker("-c", "2", queues="jobs")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()

"""One stack for the tests that leave it as it was: two push servers, two worker processes."""

from collections.abc import Iterator

import pytest

from tests.acceptance.record import Record
from tests.conftest import new_namespace
from tests.processes import ROOT, RedisServer, Stack

MESSAGES_APP = ROOT / "tests" / "apps" / "messages"
DOCUMENT_APP = ROOT / "tests" / "apps" / "document"


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


@pytest.fixture(scope="package")
def document_stack(redis_server: RedisServer) -> Iterator[Stack]:
    """One worker for requests, so that its middleware leaves its record in order; one for jobs."""
    stack = Stack(redis_server.url, DOCUMENT_APP, new_namespace())
    stack.push_server()
    stack.push_server()
    stack.worker("-P", "solo", queues="sockets")
    stack.worker("-P", "threads", "-c", "4", queues="jobs")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


@pytest.fixture
def record(redis_server: RedisServer, document_stack: Stack) -> Record:
    """What the middleware of that application was called with."""
    return Record(redis_server.client(), f"{document_stack.namespace}:record")

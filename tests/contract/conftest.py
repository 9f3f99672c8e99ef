"""The contract tests run on a real Redis and on the embedded one in Python."""

import threading
from collections.abc import Iterator

import pytest
from fakeredis import TcpFakeServer

from tests.contract.jobs import Jobs
from tests.processes import RedisServer


@pytest.fixture(scope="session")
def fake_redis_url() -> Iterator[str]:
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    port = server.server_address[1]
    # Threads of connections must not keep the run from ending.
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"redis://127.0.0.1:{port}/0"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["redis", "fakeredis"])
def redis_url(request: pytest.FixtureRequest) -> str:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    url: str = request.getfixturevalue("fake_redis_url")
    return url


@pytest.fixture
def jobs(redis_url: str, namespace: str) -> Iterator[Jobs]:
    jobs = Jobs(redis_url, namespace)
    yield jobs
    jobs.close()

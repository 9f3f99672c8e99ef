"""Fixtures that all tests share."""

import secrets
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT, RedisServer, Stack, free_port


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis for the whole run; tests stay apart by their namespace."""
    server = RedisServer()
    yield server
    server.end()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A real Redis that the test may do anything to; it survives a kill with its data."""
    server = RedisServer(append_only=True)
    yield server
    server.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what a report has of half a character: processes of pytest-xdist give each other
    UTF-8, and end where it is none."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def new_namespace() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def namespace() -> str:
    return new_namespace()


#: Writes an application's files into a folder and gives it back.
WriteApp = Callable[[dict[str, str]], Path]


@pytest.fixture
def write_app(tmp_path: Path) -> WriteApp:
    def write(files: dict[str, str]) -> Path:
        return write_files(tmp_path / "app", files)

    return write


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


#: Makes a stack that ends with the test.
NewStack = Callable[..., Stack]


@pytest.fixture
def new_stack(request: pytest.FixtureRequest) -> Iterator[NewStack]:
    """Stacks for one test; their output is shown when it fails."""
    stacks: list[Stack] = []

    def make(redis: RedisServer, app: Path, namespace: str = "", **variables: str) -> Stack:
        stack = Stack(redis.url, app, namespace or new_namespace(), **variables)
        stacks.append(stack)
        return stack

    yield make
    for stack in stacks:
        print(stack.logs())  # noqa: T201
        stack.end()


@pytest.fixture(scope="module")
def demo_stack(redis_server: RedisServer) -> Iterator[Stack]:
    """The demo application with its page: a push server, and a worker for each Celery queue."""
    stack = Stack(
        redis_server.url, ROOT, new_namespace(), QUEUE_RUN_PUBLIC_DIR=str(ROOT / "public")
    )
    # On a port that stays its own: a test starts it again there.
    stack.push_server(PORT=str(free_port()))
    stack.worker("-P", "solo", queues="sockets")
    stack.worker("-P", "threads", "-c", "10", queues="jobs")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()

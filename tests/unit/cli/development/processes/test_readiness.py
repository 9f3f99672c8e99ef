"""Asking whether all is up, of a server that answers what the test says."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from queue_run.cli.development.processes import readiness
from queue_run.cli.development.processes.readiness import (
    describe_missing,
    probe,
    reachable_host,
    wait_until_ready,
)
from queue_run.cli.supervision.keeper import ProcessState
from tests.processes import free_port
from tests.waiting import eventually_async

OK = "HTTP/1.1 200 OK\r\n\r\n{}"
MISSING = 'HTTP/1.1 503 Unavailable\r\n\r\n{"status": "not ready", "missing": ["workers"]}'


class Server:
    """Answers every request with `answer`."""

    def __init__(self) -> None:
        self.answer = OK
        self.request = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer.encode())
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


async def test_a_server_that_answers_200_is_ready(server: Server) -> None:
    assert await probe("127.0.0.1", server.port) is None
    assert server.request.startswith(b"GET /readyz HTTP/1.0\r\n")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (MISSING, "missing: workers"),
        ("HTTP/1.1 503 Unavailable\r\n\r\n", "the push server answers 503"),
        ("HTTP/1.1 404 Not Found\r\n\r\nnothing here", "nothing here"),
        ("SSH-2.0 hello", "the push server does not listen yet"),
        ("", "the push server does not listen yet"),
    ],
)
async def test_another_answer_says_why(server: Server, answer: str, reason: str) -> None:
    server.answer = answer
    assert await probe("127.0.0.1", server.port) == reason


async def test_a_server_that_does_not_listen_is_not_ready() -> None:
    assert await probe("127.0.0.1", free_port()) == "the push server does not listen yet"


async def test_waiting_says_once_what_is_missing_and_ends_when_it_is_there(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PATIENCE", 0.0)
    server.answer = MISSING
    states = {"web": ProcessState.RUNNING, "sockets": ProcessState.AWAITING_CHANGE}
    said: list[str] = []
    waiting = asyncio.create_task(
        wait_until_ready("127.0.0.1", server.port, states=lambda: states, say=said.append)
    )
    await eventually_async(lambda: said, what="a line")
    states["sockets"] = ProcessState.RUNNING
    await eventually_async(lambda: len(said) == 2, what="another line")
    assert not waiting.done()
    server.answer = OK
    await waiting
    assert said == [
        "not ready yet: sockets waits for a change that mends the application (see above)",
        "not ready yet: missing: workers",
    ]


def test_programs_that_do_not_run_are_named_before_the_answer() -> None:
    states = {
        "web": ProcessState.PAUSED,
        "sockets": ProcessState.AWAITING_CHANGE,
        "jobs": ProcessState.RUNNING,
    }
    text = describe_missing("missing: workers", states)
    assert text.startswith("web waits to start again; sockets waits for a change")
    assert describe_missing("missing: workers", {"web": ProcessState.RUNNING}) == "missing: workers"


@pytest.mark.parametrize(
    ("host", "reachable"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.1.2.3", "10.1.2.3")]
)
def test_an_address_for_all_interfaces_is_reached_on_loopback(host: str, reachable: str) -> None:
    assert reachable_host(host) == reachable

"""The Python client against real push servers and workers."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from queue_run.client import Client, Rejected, RequestFailed, connect
from tests.processes import Stack
from tests.waiting import DEADLINE, eventually_async


class Link:
    """A TCP proxy in front of a push server, which a test can cut."""

    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        self._target = (address.hostname, address.port)
        self._rest = target.partition(address.netloc)[2]
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        #: While it is set, links are made.
        self.up = asyncio.Event()
        self.up.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen; the address to connect to."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        try:
            yield f"ws://127.0.0.1:{port}{self._rest}"
        finally:
            self._server.close()
            self.cut()

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.up.wait()
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        ends = {writer, far_writer}
        self._open |= ends
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        except OSError:
            self.cut()
        finally:
            self._open -= ends
            for end in ends:
                end.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def linked(stack: Stack, path: str, **options: Any) -> AsyncIterator[tuple[Client, Link]]:
    """A client whose link to the first push server can be cut."""
    link = Link(stack.ws(path))
    async with (
        link.listening() as url,
        connect(url, connect_timeout=DEADLINE, **options) as client,
    ):
        yield client, link


def name() -> str:
    return f"user-{secrets.token_hex(4)}"


async def next_of(client: Client, count: int) -> list[Any]:
    async with asyncio.timeout(DEADLINE):
        return [await anext(client) for _ in range(count)]


async def sent(stack: Stack, user: str, *texts: str) -> None:
    """Send messages to the user; they are on their way when it returns."""
    async with connect(stack.ws("/sends", server=1), connect_timeout=DEADLINE) as sender:
        for text in texts:
            request = {"way": "others", "users": [user], "text": text}
            assert await sender.request(request, timeout=DEADLINE) is None


@pytest.mark.parametrize("data", [{"a": [1, None]}, [], 7, "text", None])
async def test_a_request_gets_what_its_handler_returns(stack: Stack, data: object) -> None:
    async with connect(stack.ws("/"), connect_timeout=DEADLINE) as client:
        assert await client.request(data, timeout=DEADLINE) == {"echo": data}


async def test_bytes_come_back_as_bytes(stack: Stack) -> None:
    async with connect(stack.ws("/"), connect_timeout=DEADLINE) as client:
        assert await client.request(bytes(range(256)), timeout=DEADLINE) == bytes(range(256))


async def test_a_handler_that_returns_nothing_ends_its_request(stack: Stack) -> None:
    async with connect(stack.ws("/quiet"), connect_timeout=DEADLINE) as client:
        assert await client.request("hush", timeout=DEADLINE) is None
        assert await client.request("speak", timeout=DEADLINE) == "loud"


async def test_an_error_fails_its_request_and_no_other(stack: Stack) -> None:
    async with connect(stack.ws("/errors"), connect_timeout=DEADLINE) as client:
        requests = [client.request(data, timeout=DEADLINE) for data in ("client error", "go on")]
        failed, fine = await asyncio.gather(*requests, return_exceptions=True)
        assert isinstance(failed, RequestFailed)
        assert str(failed) == "send a number"
        assert fine == "fine"


async def test_messages_reach_the_user_on_both_servers(stack: Stack) -> None:
    user = name()
    async with (
        connect(stack.ws(f"/?user={user}"), connect_timeout=DEADLINE) as here,
        connect(stack.ws(f"/?user={user}", server=1), connect_timeout=DEADLINE) as there,
    ):
        assert (here.user, there.user) == (user, user)
        await sent(stack, user, "one", "two")
        for client in (here, there):
            assert await next_of(client, 2) == [{"sent": "one"}, {"sent": "two"}]


async def test_a_client_that_is_not_authorized_is_refused(stack: Stack) -> None:
    with pytest.raises(Rejected, match="401: who are you"):
        await connect(stack.ws("/?user=nobody"), connect_timeout=DEADLINE).open()


async def test_what_was_sent_while_the_link_was_cut_comes_afterwards(stack: Stack) -> None:
    user = name()
    async with linked(stack, f"/?user={user}") as (client, link):
        await sent(stack, user, "before")
        assert await next_of(client, 1) == [{"sent": "before"}]
        session = client.session
        link.up.clear()
        link.cut()
        await eventually_async(lambda: not client.connected, what="the loss")
        await sent(stack, user, "missed", "missed too")
        link.up.set()
        assert await next_of(client, 2) == [{"sent": "missed"}, {"sent": "missed too"}]
        await sent(stack, user, "after")
        assert await next_of(client, 1) == [{"sent": "after"}]
        assert (client.session, client.reconnects) == (session, 1)


async def test_nothing_is_lost_or_doubled_over_many_cuts(stack: Stack) -> None:
    user, count = name(), 300

    async def send_all() -> None:
        async with connect(stack.ws("/sends", server=1), connect_timeout=DEADLINE) as sender:
            for number in range(count):
                request = {"way": "others", "users": [user], "text": number}
                await sender.request(request, timeout=DEADLINE)

    async with linked(stack, f"/?user={user}") as (client, link):
        sending = asyncio.create_task(send_all())
        seen: list[int] = []
        async with asyncio.timeout(2 * DEADLINE):
            async for message in client:
                seen.append(message["sent"])
                if len(seen) % 40 == 0:
                    link.cut()
                if message["sent"] == count - 1:
                    break
        await sending
        assert seen == list(range(count))
        # Messages that were missed come together: with them, cuts do.
        assert client.reconnects >= 1


async def test_a_request_whose_link_is_cut_runs_once_and_is_answered(stack: Stack) -> None:
    user = name()
    async with linked(stack, f"/sends?user={user}") as (client, link):
        for number in range(5):
            request = {"way": "self", "text": number}
            asked = asyncio.create_task(client.request(request, timeout=DEADLINE))
            # It runs when its message is there; the reply is on its way, and meets a cut link.
            assert await next_of(client, 1) == [{"sent": number}]
            link.cut()
            assert "written" in await asked
        await sent(stack, user, "last")
        # No message a second time: no handler ran twice.
        assert await next_of(client, 1) == [{"sent": "last"}]


async def test_a_session_goes_on_at_the_other_server(stack: Stack) -> None:
    user = name()
    link = Link(stack.ws(f"/?user={user}"))
    async with (
        link.listening() as url,
        connect([url, stack.ws(f"/?user={user}", server=1)], connect_timeout=DEADLINE) as client,
    ):
        session = client.session
        link.cut()
        await eventually_async(lambda: client.reconnects == 1, what="the other server")
        assert client.session == session
        await sent(stack, user, "there")
        assert await next_of(client, 1) == [{"sent": "there"}]

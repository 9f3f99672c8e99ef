"""The load: clients that listen, a thread that pushes, clients that ask. All is written down."""

import asyncio
import contextlib
import logging
import random
import secrets
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

import queue_run
from queue_run import socket
from queue_run.client import Client, connect
from queue_run.client.protocol import Protocol
from queue_run.errors import ChannelUnavailable, QueueRunError
from queue_run.settings import Settings
from tests.faults.checker import GAP, Event, Push, Requests, as_received, seal
from tests.faults.stage import Stage, now, within

log = logging.getLogger(__name__)

#: Clients that connect at once.
AT_ONCE = 100


class Listener:
    """One user's client, and what it was handed."""

    def __init__(self, user: str, urls: Sequence[str]) -> None:
        self.user = user
        self.log: list[Event] = []
        #: Seconds of each time without a connection.
        self.absences: list[float] = []
        self._gone: float | None = None
        self.client: Client = connect(
            urls,
            token=user,
            on_gap=lambda: self.log.append(GAP),
            on_connected=self._came,
            on_disconnected=self._went,
            connect_timeout=60,
            grace=5,
        )
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.client.open()
        self._task = asyncio.create_task(self._listen())

    async def close(self) -> None:
        await self.client.close()
        if self._task is not None:
            await self._task

    @property
    def gaps(self) -> int:
        return sum(event is GAP for event in self.log)

    def _came(self) -> None:
        if self._gone is not None:
            self.absences.append(now() - self._gone)
            self._gone = None

    def _went(self) -> None:
        if self._gone is None:
            self._gone = now()

    async def _listen(self) -> None:
        async for message in self.client:
            self.log.append(as_received(message))


class Listeners:
    """All of them."""

    def __init__(self, users: Sequence[str], urls: Sequence[str]) -> None:
        self.all = [Listener(user, _rotated(urls, index)) for index, user in enumerate(users)]

    async def open(self) -> None:
        for start in range(0, len(self.all), AT_ONCE):
            await asyncio.gather(*(each.open() for each in self.all[start : start + AT_ONCE]))

    async def close(self) -> None:
        await asyncio.gather(*(each.close() for each in self.all))

    @property
    def logs(self) -> dict[str, list[Event]]:
        return {each.user: each.log for each in self.all}

    @property
    def absences(self) -> list[float]:
        return [seconds for each in self.all for seconds in each.absences]

    @property
    def connected(self) -> int:
        return sum(each.client.connected for each in self.all)

    async def wait_until_connected(self) -> None:
        await within(lambda: self.connected == len(self.all), "all clients to be back")


@contextlib.asynccontextmanager
async def listening(users: Sequence[str], urls: Sequence[str]) -> AsyncIterator[Listeners]:
    """Clients of these users, connected."""
    listeners = Listeners(users, urls)
    try:
        await listeners.open()
        yield listeners
    finally:
        await listeners.close()


class Pusher:
    """Sends messages at a rate, in order, from a thread of its own."""

    def __init__(
        self, stage: Stage, users: Sequence[str], *, rate: float, padding: int = 0
    ) -> None:
        self.pushes: list[Push] = []
        #: What sends that failed have said.
        self.refusals: list[str] = []
        self._users = users
        self._pause = 1 / rate
        self._padding = "x" * padding
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pusher", daemon=True)
        queue_run.configure(
            # As the processes have them: also who writes to a stream bounds it.
            msgspec.structs.replace(Settings.from_env(stage.stack.environ()), publish_timeout=30.0)
        )

    @property
    def failed(self) -> int:
        """How many sends have failed."""
        return len(self.refusals)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)

    def push_one(self, users: Sequence[str]) -> Push:
        """Send one message to these users now; not while the thread runs."""
        number = len(self.pushes)
        content = {"n": number, "text": secrets.token_hex(4) + self._padding}
        push = Push(number, users, seal(content))
        self.pushes.append(push)
        try:
            socket.to(users).send(content)
            push.confirmed = True
        except ChannelUnavailable as error:
            self.refusals.append(str(error))
            log.info("not confirmed: %s", error)
        return push

    def _run(self) -> None:
        due = now()
        while not self._stopped.wait(max(0.0, due - now())):
            # After an outage it goes on at its rate, and does not make up for it.
            due = max(due + self._pause, now() - self._pause)
            self.push_one(self._chosen())

    def _chosen(self) -> Sequence[str]:
        chance = random.random()
        if chance < 0.98:
            return random.sample(self._users, 1 if chance < 0.9 else min(5, len(self._users)))
        return self._users


@contextlib.asynccontextmanager
async def pushing(
    stage: Stage, users: Sequence[str], *, rate: float, padding: int = 0
) -> AsyncIterator[Pusher]:
    """A pusher at work, and at rest at the end."""
    pusher = Pusher(stage, users, rate=rate, padding=padding)
    pusher.start()
    try:
        yield pusher
    finally:
        await pusher.stop()


class _Watched(Protocol):
    """The protocol of a client, which counts the outcomes that are dropped as known ones."""

    def __init__(self, requests: Requests) -> None:
        super().__init__()
        self._requests = requests

    def _answer(self, number: object, event: Any) -> Any:
        events = super()._answer(number, event)
        self._requests.told_again += not events
        return events


class Askers:
    """Clients that ask, each at its rate, and note how each request ended.

    Args:
        takes: seconds that each handler runs.
        counted: whether the application counts how often each handler ran.
    """

    def __init__(
        self,
        count: int,
        urls: Sequence[str],
        *,
        rate: float,
        takes: float = 0.0,
        counted: bool = True,
    ) -> None:
        self.requests = Requests()
        self._pause = 1 / rate
        self._content = {"takes": takes, "count": counted}
        self._clients = [
            (f"asker-{index}", self._client(f"asker-{index}", _rotated(urls, index)))
            for index in range(count)
        ]
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    def _client(self, user: str, urls: Sequence[str]) -> Client:
        client = connect(urls, token=user, connect_timeout=60, grace=5)
        client._protocol = _Watched(self.requests)
        return client

    async def start(self) -> None:
        for start in range(0, len(self._clients), AT_ONCE):
            some = self._clients[start : start + AT_ONCE]
            await asyncio.gather(*(client.open() for _, client in some))
        self._tasks = [asyncio.create_task(self._ask(*each)) for each in self._clients]

    async def stop(self) -> None:
        """Ask no more, and wait for what is under way."""
        self._stopped = True
        await asyncio.gather(*self._tasks)
        if self._under_way:
            # What has no outcome after this is one of the faults that are looked for.
            await asyncio.wait(self._under_way, timeout=90)

    async def close(self) -> None:
        self._stopped = True
        await asyncio.gather(*(client.close() for _, client in self._clients))
        await asyncio.gather(*self._tasks, *self._under_way, return_exceptions=True)

    async def _ask(self, user: str, client: Client) -> None:
        number = 0
        await asyncio.sleep(random.uniform(0, self._pause))
        while not self._stopped:
            number += 1
            task = asyncio.create_task(self._request(user, client, number))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            await asyncio.sleep(self._pause)

    async def _request(self, user: str, client: Client, number: int) -> None:
        self.requests.asked(user, number)
        try:
            reply = await client.request({"number": number, **self._content})
        except QueueRunError as error:
            self.requests.ended(user, number, _outcome(error))
        else:
            self.requests.answered(user, number, reply)


@contextlib.asynccontextmanager
async def asking(
    count: int, urls: Sequence[str], *, rate: float, takes: float = 0.0, counted: bool = True
) -> AsyncIterator[Askers]:
    """Askers at work."""
    askers = Askers(count, urls, rate=rate, takes=takes, counted=counted)
    try:
        await askers.start()
        yield askers
    finally:
        await askers.close()


def _outcome(error: Exception) -> str:
    return f"error: {error}" if str(error) == "no answer in time" else type(error).__name__


def _rotated(urls: Sequence[str], index: int) -> list[str]:
    """The addresses, from another one for each client."""
    start = index % len(urls)
    return [*urls[start:], *urls[:start]]

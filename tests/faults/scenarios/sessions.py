"""Clients that come back to something else: rooms that they have left, a stream that began anew."""

import asyncio

import queue_run
from queue_run import socket
from queue_run.client import Client, connect
from queue_run.contracts.envelopes import ToUsers, encode
from queue_run.contracts.ids import UserId
from queue_run.contracts.keys import Keys
from queue_run.contracts.messages import Form, Message
from queue_run.settings import Settings
from tests.faults.proxy import Proxy
from tests.faults.report import Row
from tests.faults.scenarios.pushes import TOLD_WITHIN, run
from tests.faults.scenarios.size import Size
from tests.faults.stage import Stage, now, stage, within

ROOM = "lab room"
#: Milliseconds by which offsets were ahead, before they begin anew.
AHEAD = 3_600_000


class Member:
    """A client in a room, and what it was sent."""

    def __init__(self, user: str, urls: list[str]) -> None:
        self.user = user
        self.heard: list[object] = []
        self.client: Client = connect(urls, token=user, on_gap=self._gap, connect_timeout=60)
        self.gaps = 0
        self._task: asyncio.Task[None] | None = None

    async def open(self, number: int) -> None:
        await self.client.open()
        self._task = asyncio.create_task(self._listen())
        await self.client.request({"number": number, "join": ROOM})

    async def close(self) -> None:
        await self.client.close()
        if self._task is not None:
            await self._task

    def _gap(self) -> None:
        self.gaps += 1

    async def _listen(self) -> None:
        async for message in self.client:
            self.heard.append(message)


async def rooms_left(size: Size) -> Row:
    """Half of the clients are made to leave a room while they are away, and forgotten messages
    hide it."""
    # A window of some messages: nobody can be told of the leave by it.
    settings = {"QUEUE_RUN_WINDOW_BYTES": "20000"}
    async with (
        stage(settings=settings) as on,
        Proxy(on.ports[0]) as first,
        Proxy(on.ports[1]) as second,
    ):
        urls = [f"ws://127.0.0.1:{proxy.port}/" for proxy in (first, second)]
        members = [Member(f"member-{n}", urls) for n in range(size.askers)]
        try:
            await asyncio.gather(*(each.open(n) for n, each in enumerate(members)))
            for proxy in (first, second):
                proxy.refusing = True
                proxy.cut()
            await within(lambda: not any(each.client.connected for each in members), "the cut")
            leaving = {each.user for each in members[::2]}
            await asyncio.to_thread(_leave_and_fill, on, sorted(leaving))
            for proxy in (first, second):
                proxy.refusing = False
            await within(lambda: all(each.client.connected for each in members), "all to be back")
            await asyncio.to_thread(_speak, [each.user for each in members])
            await within(lambda: all("end" in each.heard for each in members), "the last message")
        finally:
            await asyncio.gather(*(each.close() for each in members))
        heard = {each.user for each in members if "to the room" in each.heard}
        wrong, missing = len(heard & leaving), len(members) - len(leaving) - len(heard - leaving)
        gaps = sum(each.gaps for each in members)
        return Row(
            fault="half of the clients are made to leave a room while they are away, and push "
            "servers forget it",
            load=f"{len(members)} clients in a room",
            shown=f"{gaps} told of a gap; {wrong} in a room that they have left, {missing} not in "
            "one that they have not left",
            passed=not wrong and not missing and gaps == len(members),
        )


def _leave_and_fill(on: Stage, users: list[str]) -> None:
    queue_run.configure(Settings(redis_url=on.redis_server.url, namespace=on.stack.namespace))
    for user in users:
        with queue_run.as_user({"id": user}):
            socket.leave(ROOM)
    for _ in range(100):
        socket.to("nobody").send("x" * 1000)


def _speak(users: list[str]) -> None:
    socket.room(ROOM).send("to the room")
    socket.to(users).send("end")


async def offsets_anew(size: Size) -> Row:
    """Offsets begin anew, behind those that everybody has, and nothing says so: a replica was
    promoted that lacks the last entries, or whose clock is behind."""
    async with stage() as on, run(size, on=on) as lab:
        keys = Keys(on.stack.namespace)
        told = []
        for number in range(1, size.redis_flushes + 1):
            await asyncio.sleep(size.pause)
            ahead = ToUsers(users=[UserId("nobody")], message=Message(Form.TEXT, b"ahead"))
            at = int(on.redis.time()[0]) * 1000 + AHEAD * number
            on.redis.xadd(keys.broadcast, {"e": encode(ahead)}, id=f"{at}-0")
            await asyncio.sleep(size.pause / 3)
            on.redis.delete(keys.broadcast)
            started = now()

            def everybody_knows(times: int = number) -> bool:
                return all(each.gaps >= times for each in lab.listeners.all)

            await within(everybody_knows, "a gap for everybody", deadline=TOLD_WITHIN)
            told.append(now() - started)
        verdict = await lab.settle()
        return Row(
            fault=f"offsets begin anew {size.redis_flushes} times, an hour behind, and the epoch "
            "stays",
            load=size.load,
            shown=f"{verdict}; all {size.clients} clients told each time, after at most "
            f"{max(told):.1f} s",
            passed=verdict.clean and verdict.gaps >= size.redis_flushes * size.clients,
        )

"""Many clients at once: a storm of reconnects, users who come and go, readers that stall."""

import asyncio
import dataclasses
import random
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_plainly

import queue_run
from queue_run import socket
from queue_run.client import connect
from queue_run.settings import Settings
from tests.faults.checker import judge
from tests.faults.load import Listeners, Pusher, listening
from tests.faults.proxy import Proxy
from tests.faults.report import Row
from tests.faults.scenarios.pushes import run
from tests.faults.scenarios.size import Size
from tests.faults.stage import DEADLINE, Memory, Stage, now, percentile, stage, within

#: What one client that does not read may cost, in bytes.
STALLED_BYTES = 1.2 * 1024 * 1024
#: Pushes by which it is found out what pushes cost where everybody reads.
BASELINE_PUSHES = 600


async def reconnect_storm(size: Size) -> Row:
    """All clients lose their sockets in the same moment."""
    crowd = dataclasses.replace(size, clients=size.storm)
    async with (
        stage() as on,
        Proxy(on.ports[0]) as first,
        Proxy(on.ports[1]) as second,
    ):
        urls = [f"ws://127.0.0.1:{proxy.port}/" for proxy in (first, second)]
        async with run(crowd, urls=urls, on=on) as lab:
            await asyncio.sleep(size.pause)
            started = now()
            dropped = first.cut() + second.cut()
            await within(lambda: lab.listeners.connected < size.storm, "the storm to begin")
            await lab.listeners.wait_until_connected()
            back = now() - started
            verdict = await lab.settle()
        absences = lab.listeners.absences
        return Row(
            fault=f"{dropped:,} clients lose their sockets at once",
            load=f"{size.storm:,} clients, {size.rate:g} pushes/s",
            shown=f"{verdict}; 99 % back and resumed after {percentile(absences, 0.99):.1f} s, "
            f"all after {back:.1f} s",
            passed=verdict.clean and verdict.gaps == 0,
        )


async def window_outlived(size: Size) -> Row:
    """All clients are away for longer than push servers remember."""
    async with (
        stage(settings={"QUEUE_RUN_WINDOW_TIME": f"{size.window:g}"}) as on,
        Proxy(on.ports[0]) as first,
        Proxy(on.ports[1]) as second,
    ):
        urls = [f"ws://127.0.0.1:{proxy.port}/" for proxy in (first, second)]
        async with run(size, urls=urls, on=on) as lab:
            await asyncio.sleep(size.pause)
            for proxy in (first, second):
                proxy.refusing = True
                proxy.cut()
            await asyncio.sleep(2 * size.window)
            for proxy in (first, second):
                proxy.refusing = False
            await lab.listeners.wait_until_connected()
            verdict = await lab.settle()
        told = sum(each.gaps == 1 for each in lab.listeners.all)
        return Row(
            fault=f"all clients are away for {2 * size.window:g} s, and push servers remember "
            f"{size.window:g} s",
            load=size.load,
            shown=f"{verdict}; {told:,} clients told of one gap, silent gaps {verdict.lost}",
            passed=verdict.clean and verdict.excused > 0 and told == size.clients,
        )


async def presence(size: Size) -> Row:
    """Users come and go at random, and push servers are killed."""
    async with stage(workers=1) as on:
        users = [f"user-{number}" for number in range(size.flapping)]
        present: dict[str, Any] = {}
        killer = asyncio.create_task(_kill_both(on, size.flapping_time / 3))
        await asyncio.gather(*(_flap(user, on.urls, present, size.flapping_time) for user in users))
        await killer
        _configure(on)

        wrong = await _wrongly_online(users, present)
        unpaired = await _settled_unpaired(on, users, present)
        for client in present.values():
            await client.close()
        events = sum(len(each) for each in (await on.presence_of(users)).values())
        return Row(
            fault=f"{size.flapping:,} users come and go for {size.flapping_time:g} s, and push "
            "servers are killed twice",
            load=f"{events:,} calls of `on_online` and `on_offline`",
            shown=f"{unpaired} users whose calls do not pair up, {wrong} users online who are "
            "not connected, or the reverse",
            passed=not unpaired and not wrong,
        )


async def _wrongly_online(users: list[str], present: dict[str, Any]) -> int:
    """Users of whom presence says the contrary of what is, once it has had time to settle."""
    wrong = len(users)
    until = now() + DEADLINE / 2
    while wrong and now() < until:
        wrong = len(set(await socket.online(users)) ^ set(present))
        await asyncio.sleep(0.2)
    return wrong


async def _flap(user: str, urls: list[str], present: dict[str, Any], seconds: float) -> None:
    until = now() + seconds
    await asyncio.sleep(random.uniform(0, seconds / 4))
    while now() < until:
        client = connect(random.sample(urls, len(urls)), token=user, connect_timeout=60, grace=5)
        await client.open()
        await asyncio.sleep(random.uniform(0.1, seconds / 4))
        if now() >= until and random.random() < 0.5:
            present[user] = client
            return
        await client.close()
        await asyncio.sleep(random.uniform(0.05, seconds / 4))


async def _kill_both(on: Stage, pause: float) -> None:
    for number in range(2):
        await asyncio.sleep(pause)
        await on.kill_push_server(number)


async def _settled_unpaired(on: Stage, users: list[str], present: dict[str, Any]) -> int:
    """Users whose calls are not online, offline, online, … with the right end, once all are in."""
    unpaired = len(users)
    until = now() + DEADLINE
    while now() < until:
        calls = await on.presence_of(users)
        unpaired = sum(not _paired(calls[user], present=user in present) for user in users)
        if unpaired == 0:
            break
        await asyncio.sleep(0.5)
    return unpaired


def _paired(calls: list[str], *, present: bool) -> bool:
    expected = ["online" if number % 2 == 0 else "offline" for number in range(len(calls))]
    return calls == expected and (calls[-1:] == ["online"]) == present


async def stalled_readers(size: Size) -> Row:
    """Some clients stop reading, and stay connected."""
    # Long enough for pings: what drops these clients is to be what waits for them.
    patient = {"QUEUE_RUN_PING_TIMEOUT": "60", "QUEUE_RUN_PING_INTERVAL": "60"}
    async with stage(servers=1, settings=patient) as on:
        stalled_users = [f"stalled-{number}" for number in range(size.stalled)]
        users = [f"user-{number}" for number in range(size.listeners - size.stalled)]
        server = on.push_servers[0].pid
        async with listening(users, on.urls) as listeners:
            everybody = [*users, *stalled_users]
            pusher = Pusher(on, everybody, rate=1, padding=1000)
            # What the same pushes cost where everybody reads: the window, and the heap's own ways.
            first = Memory.bytes(server)
            await _push(pusher, listeners, everybody, BASELINE_PUSHES)
            before = highest = Memory.bytes(server)
            readers = [await _stalled_reader(on.urls[0], user) for user in stalled_users]
            # More than the kernel and the outbox hold of one client.
            while _dropped(on) < size.stalled and len(pusher.pushes) < 20_000:
                await _push(pusher, listeners, everybody, 20)
                highest = max(highest, Memory.bytes(server))
            dropped = _dropped(on)
            named = sum(f"user {user})" in on.push_servers[0].output for user in stalled_users)
            verdict = judge(pusher.pushes, listeners.logs)
            for reader in readers:
                reader.transport.abort()
        grown = highest - before
        pushes = len(pusher.pushes) - BASELINE_PUSHES
        baseline = (before - first) * pushes / BASELINE_PUSHES
        allowed = baseline + size.stalled * STALLED_BYTES
        return Row(
            fault=f"{size.stalled} of {size.listeners} clients stop reading",
            load=f"{pushes:,} pushes of 1 KB to all",
            shown=f"{dropped} dropped, {named} named in the log; the others: {verdict}; the push "
            f"server's memory grew by {grown / 2**20:.1f} MiB, of which the same pushes cost "
            f"{baseline / 2**20:.1f} where everybody reads (allowed: {allowed / 2**20:.1f})",
            passed=dropped == named == size.stalled and verdict.clean and grown <= allowed,
        )


def _all_have(listeners: Listeners, last: int) -> bool:
    return all(getattr(each.log[-1], "number", -1) >= last for each in listeners.all if each.log)


async def _push(pusher: Pusher, listeners: Listeners, users: list[str], count: int) -> None:
    """Push to these users, no faster than those who read can: it is not they who are tested."""
    for _ in range(count):
        await asyncio.to_thread(pusher.push_one, users)
    last = len(pusher.pushes) - 1
    await within(lambda: _all_have(listeners, last), "the others to have read")


def _dropped(on: Stage) -> int:
    return on.push_servers[0].output.count("dropped: slow consumer")


async def _stalled_reader(url: str, user: str) -> ClientConnection:
    reader = await connect_plainly(
        url, ping_interval=None, additional_headers={"Authorization": f"Bearer {user}"}
    )
    reader.transport.pause_reading()
    return reader


def _configure(on: Stage) -> None:
    queue_run.configure(Settings(redis_url=on.redis_server.url, namespace=on.stack.namespace))

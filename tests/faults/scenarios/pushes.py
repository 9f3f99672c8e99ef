"""Faults under pushes: what reaches listening clients."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tests.faults.checker import Verdict, judge, judge_requests, still_due
from tests.faults.load import Listeners, Pusher, asking, listening, pushing
from tests.faults.planted import plant
from tests.faults.proxy import Proxy
from tests.faults.report import Row
from tests.faults.scenarios.size import Size
from tests.faults.stage import DEADLINE, Memory, Stage, now, percentile, stage, within

#: Seconds within which a gap must have been told to everybody.
TOLD_WITHIN = 60.0
#: Bytes by which all push servers may grow while Redis stands still.
FROZEN_BYTES = 32 * 2**20
#: Seconds that chunks to and from Redis are held back, for a part of the cuts.
REDIS_DELAY = 0.02


@dataclass(slots=True)
class Run:
    """A stage with listeners and a pusher."""

    stage: Stage
    listeners: Listeners
    pusher: Pusher
    verdict: Verdict | None = None

    async def settle(self) -> Verdict:
        """Stop pushing, wait until everything is there or missing for good, and judge."""
        await self.pusher.stop()
        with contextlib.suppress(AssertionError):
            await self.listeners.wait_until_connected()
        # A last message to everybody: where it has come, everything before it has, or never will.
        self.pusher.push_one([each.user for each in self.listeners.all])
        with contextlib.suppress(AssertionError):
            await within(self._nothing_due, "all messages", deadline=DEADLINE / 2)
        self.verdict = judge(self.pusher.pushes, self.listeners.logs)
        return self.verdict

    def _nothing_due(self) -> bool:
        last = len(self.pusher.pushes) - 1
        logs = self.listeners.logs
        if any(not log or getattr(log[-1], "number", -1) < last for log in logs.values()):
            return False
        return still_due(self.pusher.pushes, logs) == 0


@contextlib.asynccontextmanager
async def run(size: Size, *, urls: list[str] | None = None, on: Stage) -> AsyncIterator[Run]:
    """Clients that listen and a pusher at work, on a stage."""
    users = [f"user-{number}" for number in range(size.clients)]
    async with (
        listening(users, urls or on.urls) as listeners,
        pushing(on, users, rate=size.rate) as pusher,
    ):
        yield Run(on, listeners, pusher)


def _absences(listeners: Listeners) -> str:
    absences = listeners.absences
    return (
        f"{len(absences):,} reconnects, away p50 {percentile(absences, 0.5):.2f} s, "
        f"p99 {percentile(absences, 0.99):.2f} s"
    )


async def server_kills(size: Size) -> Row:
    """Push servers are killed in turn; clients go to the other."""
    async with (
        stage() as on,
        run(size, on=on) as lab,
        asking(size.askers, on.urls, rate=1, takes=size.takes) as askers,
    ):
        for number in range(size.server_kills):
            await asyncio.sleep(size.pause)
            await on.kill_push_server(number % 2)
        await asyncio.sleep(size.pause)
        await askers.stop()
        requests = judge_requests(askers.requests, on.runs())
        verdict = await lab.settle()
        return Row(
            fault=f"a push server is killed (SIGKILL) {size.server_kills} times, of two",
            load=size.mild_load,
            shown=f"{verdict}; {_absences(lab.listeners)}; {requests}",
            passed=verdict.clean and verdict.gaps == 0 and requests.clean,
        )


async def client_cuts(size: Size) -> Row:
    """Sockets of clients are reset; some fall silent instead, and all are slow for a while."""
    async with (
        stage() as on,
        Proxy(on.ports[0]) as first,
        Proxy(on.ports[1]) as second,
    ):
        urls = [f"ws://127.0.0.1:{proxy.port}/" for proxy in (first, second)]
        async with (
            run(size, urls=urls, on=on) as lab,
            asking(size.askers, urls, rate=1, takes=size.takes) as askers,
        ):
            cut = silent = 0
            at_once = max(2, size.clients // 20)
            while cut < size.client_cuts:
                await asyncio.sleep(0.5)
                for proxy in (first, second):
                    proxy.delay = 0.05 if (cut // 200) % 2 else 0.0
                    cut += proxy.cut(at_once // 2)
                    if cut % 5 == 0:
                        silent += proxy.half_open(1)
            first.delay = second.delay = 0.0
            await askers.stop()
            requests = judge_requests(askers.requests, on.runs())
            verdict = await lab.settle()
        return Row(
            fault=f"sockets of clients are cut {cut:,} times; {silent} more fall silent",
            load=f"{size.mild_load}; through a proxy that delays half the time",
            shown=f"{verdict}; {_absences(lab.listeners)}; {requests}",
            passed=verdict.clean and verdict.gaps == 0 and requests.clean,
        )


async def redis_links(size: Size) -> Row:
    """All links to Redis are cut; then Redis itself is killed, with its data on disk."""
    async with stage(proxied_redis=True) as on, run(size, on=on) as lab:
        for number in range(size.redis_cuts):
            await asyncio.sleep(size.pause / 3)
            # By a reset in the middle of whatever is on its way, and by Redis itself.
            if number % 2:
                on.cut_redis_links()
            else:
                on.redis_links.cut()
            on.redis_links.delay = REDIS_DELAY if number % 4 < 2 else 0.0
        on.redis_links.delay = 0.0
        for _ in range(size.redis_restarts):
            await asyncio.sleep(size.pause)
            await on.restart_redis()
        await asyncio.sleep(size.pause)
        verdict = await lab.settle()
        return Row(
            fault=f"all links to Redis are cut {size.redis_cuts} times, Redis is killed and "
            f"restarted {size.redis_restarts} times (append-only)",
            load=size.load,
            shown=f"{verdict}; {lab.pusher.failed} sends raised",
            passed=verdict.clean and on.alive(),
        )


async def redis_emptied(size: Size) -> Row:
    """Redis loses everything."""
    async with stage() as on, run(size, on=on) as lab:
        told = []
        for number in range(1, size.redis_flushes + 1):
            await asyncio.sleep(size.pause)
            on.redis.flushall()
            started = now()

            def everybody_knows(times: int = number) -> bool:
                return all(each.gaps >= times for each in lab.listeners.all)

            await within(everybody_knows, "a gap for everybody", deadline=TOLD_WITHIN)
            told.append(now() - started)
        verdict = await lab.settle()
        return Row(
            fault=f"Redis is emptied {size.redis_flushes} times",
            load=size.load,
            shown=f"{verdict}; all {size.clients} clients told each time, after at most "
            f"{max(told):.1f} s",
            passed=verdict.clean and verdict.gaps >= size.redis_flushes * size.clients,
        )


async def redis_frozen(size: Size) -> Row:
    """Redis stands still."""
    async with stage() as on, run(size, on=on) as lab:
        await asyncio.sleep(size.pause)
        before = _memory(on)
        on.redis_server.process.send(signal.SIGSTOP)
        await asyncio.sleep(size.frozen)
        grown = _memory(on) - before
        sent = len(lab.pusher.pushes)
        on.redis_server.process.send(signal.SIGCONT)
        started = now()
        # Somebody got a message that was sent after it.
        await within(
            lambda: any(
                getattr(event, "number", -1) >= sent
                for each in lab.listeners.all
                for event in each.log[-3:]
            ),
            "messages again",
        )
        recovered = now() - started
        await asyncio.sleep(size.pause)
        alive = on.alive()
        verdict = await lab.settle()
        return Row(
            fault=f"Redis is frozen for {size.frozen:g} s (SIGSTOP)",
            load=size.load,
            shown=f"{verdict}; {lab.pusher.failed} sends raised; messages again after "
            f"{recovered:.1f} s; push servers grew by {grown / 2**20:.1f} MiB; all processes "
            f"alive: {'yes' if alive else 'no'}",
            passed=verdict.clean and alive and grown <= FROZEN_BYTES,
        )


def _memory(on: Stage) -> int:
    return sum(Memory.bytes(server.pid) for server in on.push_servers)


async def planted(size: Size, kinds: Sequence[str]) -> Row:
    """Faults in what a run without faults has written down: the checker must find each."""
    async with stage() as on, run(size, on=on) as lab:
        await asyncio.sleep(size.pause)
        verdict = await lab.settle()
        found = {}
        for kind in kinds:
            logs = {user: list(log) for user, log in lab.listeners.logs.items()}
            plant(kind, logs)
            found[kind] = judge(lab.pusher.pushes, logs)
        red = [kind for kind, each in found.items() if not each.clean]
        return Row(
            fault="none, but one message is spoilt in what was written down",
            load=size.load,
            shown=f"before: {verdict}; found: {', '.join(red) or 'nothing'} "
            f"(of {', '.join(kinds)})",
            passed=verdict.clean and len(red) == len(kinds),
        )
